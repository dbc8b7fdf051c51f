"""A stand-in for the Hugging Face hub on this machine, with the addresses that its client uses for models.

It keeps repositories in memory: creating one, uploads as regular files in a commit, and files at a branch or commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_tests"


@dataclass
class Hub:
    """Its address, and what it holds: files of each commit of a repository, the newest last."""

    address: str = ""
    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    refuses: int = 0  # status of every upload

    def add(self, name: str, files: dict[str, bytes]) -> str:
        """Add a commit and return its name."""
        before = list(self.commits.setdefault(name, {}).values())
        content = {**(before[-1] if before else {}), **files}
        commit = hashlib.sha1(repr((len(before), sorted(content.items()))).encode()).hexdigest()
        self.commits[name][commit] = content
        return commit

    def files(self, name: str, revision: str = "main") -> tuple[str, dict[str, bytes]] | None:
        """Return commit and files of a revision."""
        commits = self.commits[name]
        commit = list(commits)[-1] if revision == "main" and commits else revision
        return (commit, commits[commit]) if commit in commits else None


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)(\?.*)?", self.path)
        if match is None:
            return self.answer(404, {"error": "no such address"})
        name, revision, file = match[1], match[2], match[3]
        if name in self.hub.gated:
            return self.answer(403, {"error": "gated"}, code="GatedRepo")
        if name not in self.hub.commits:
            return self.answer(401, {"error": "Repository not found"}, code="RepoNotFound")
        found = self.hub.files(name, revision)
        if found is None:
            return self.answer(404, {"error": "no such revision"}, code="RevisionNotFound")
        if file not in found[1]:
            return self.answer(404, {"error": "no such file"}, code="EntryNotFound", commit=found[0])
        return self.answer(200, found[1][file], commit=found[0])

    def do_POST(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        if self.hub.refuses:
            return self.answer(self.hub.refuses, {"error": "refused"})
        if self.path == "/api/validate-yaml":  # of a card
            return self.answer(200, {"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
            self.hub.commits.setdefault(name, {})
            if asked.get("private") or asked.get("visibility") == "private":
                self.hub.private.add(name)
            return self.answer(200, {"url": f"{self.hub.address}/{name}", "name": name})
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main(\?.*)?", self.path)
        if match is None:
            return self.answer(404, {"error": "no such address"})
        if match[2] == "preupload":
            rows = [
                {"path": item["path"], "uploadMode": "regular", "shouldIgnore": False}
                for item in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": rows})
        lines = [json.loads(line) for line in body.splitlines()]
        values = [line["value"] for line in lines if line["key"] == "file"]
        commit = self.hub.add(match[1], {item["path"]: base64.b64decode(item["content"]) for item in values})
        address = f"{self.hub.address}/{match[1]}/commit/{commit}"
        return self.answer(200, {"success": True, "commitOid": commit, "commitUrl": address})

    def answer(self, status: int, content: bytes | dict[str, object], code: str = "", commit: str = "") -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if code:
            self.send_header("X-Error-Code", code)
        if commit:
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub on a free port of this machine, until the block ends."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
