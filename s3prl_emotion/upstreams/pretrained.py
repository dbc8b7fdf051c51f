"""Load models of ``transformers`` from a directory or the hub; every failure is one line that says how to fix it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash

from s3prl_emotion.errors import UsageError
from s3prl_emotion.limits import wrong_size
from s3prl_emotion.rng import own_seed
from s3prl_emotion.upstreams.hub import OFFLINE, cached, fetch, is_offline, local_directory
from s3prl_emotion.upstreams.weights import Weights, check_pickled, check_pointer, find_weights, is_pointer

logger = logging.getLogger(__name__)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
PINNED: dict[str, str] = {}
"""Commit of each model on the hub that a restored checkpoint was trained with; used where no revision is given."""
# keys of a config that describe a model's origin or training task and do not change its output
NAMES = {
    "_name_or_path", "_commit_hash", "transformers_version", "architectures", "dtype", "torch_dtype", "id2label",
    "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params", "output_hidden_states",
    "output_attentions", "return_dict", "use_return_dict", "attn_implementation", "_attn_implementation_autoset",
}  # fmt: skip


@dataclass(frozen=True)
class Pretrained:
    """A model's location, and readers of its parts."""

    location: str
    """Directory, or id on the hub."""
    where: str
    """Its name in messages."""
    local: bool
    hub: dict[str, Any]
    """Options of ``from_pretrained``; its revision becomes the commit once that is known."""
    example: str = ""
    """How to name a local directory on the command line, for messages."""

    def commit(self) -> str | None:
        """Return the commit of a model from the hub that was loaded; ``None`` for a directory."""
        path = None if self.local else cached(self.location, "config.json", self.hub["revision"])
        return None if path is None else path.parent.name

    def config(self) -> Any:
        """Read the model's config."""
        import transformers

        with quiet():
            config = self.read("config.json", transformers.AutoConfig.from_pretrained)
        check_sizes(config.to_dict(), self.where)
        return config

    def values(self, name: str) -> dict[str, Any]:
        """Return what a small JSON file of the model says; nothing if the model has no such file."""
        path = Path(self.location) / name if self.local else cached(self.location, name, self.hub["revision"])
        if path is None or not path.is_file():
            return {}
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{self.where}: {name} is not readable as JSON: {_line(error)}") from error
        return values if isinstance(values, dict) else {}

    def tokenizer(self) -> Any:
        """Read the model's tokenizer.

        Raises:
            UsageError: there is none, or its vocabulary has no words
        """
        import transformers

        with quiet():
            tokenizer = self.read("the tokenizer", transformers.AutoTokenizer.from_pretrained)
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # transformers 5 builds an empty one
            raise UsageError(
                f"{self.where}: holds no tokenizer files (tokenizer.json, vocab.txt, …); add those of the model"
            )
        return tokenizer

    def extractor(self) -> Any:
        """Read the feature extractor, which turns a waveform into the model's input."""
        import transformers

        with quiet():
            return self.read("preprocessor_config.json", transformers.AutoFeatureExtractor.from_pretrained)

    def model(
        self,
        kind: Any,
        config: Any,
        may_miss: str = "",
        unused: str = "",
        dtype: torch.dtype = torch.float32,
        also: Sequence[str] = (),
        **more: Any,
    ) -> Any:
        """Read the model, in eval mode; random generators keep their state.

        Weights that the file has and the model lacks are reported: those of a head in the log, those of the model's own
        parts as a warning.

        Args:
            kind: class or auto class of ``transformers``
            config: of the model, which may have fewer layers than the weights
            may_miss: pattern of the names of weights that may be missing, since they are not used
            unused: pattern of the names of weights that are left out on purpose, such as those of layers above a cut
            dtype: of the weights
            also: other files that are read with the weights, if the model has them
            more: arguments of ``from_pretrained``

        Raises:
            UsageError: weights are missing, damaged, hold more than tensors, or do not fit the config
        """
        weights = self._weights(also)
        if not weights.safe:
            for file in weights.files:
                check_pickled(file, self.where)
        with quiet(), own_seed(0):  # missing weights are drawn at random
            model, report = self._call(
                "weights",
                kind.from_pretrained,
                str(weights.files[0].parent),
                config=config,
                dtype=dtype,
                use_safetensors=weights.safe,
                output_loading_info=True,
                trust_remote_code=False,
                **more,
            )
        missing = sorted(key for key in report["missing_keys"] if not re.fullmatch(may_miss, key))
        others = sorted(key for key in report["unexpected_keys"] if not re.fullmatch(unused, key))
        if missing:
            raise UsageError(
                f"{self.where}: the weights do not fit config.json: {len(missing)} weights of {type(model).__name__}"
                f" are missing, for example {_listed(missing)}{f', and {_listed(others)} unknown' if others else ''}; "
                "give a model whose weights and config belong together"
            )
        self._report_unused(model, others)
        return model.eval()

    def read(self, what: str, loader: Callable[..., Any], **more: Any) -> Any:
        """Call a loader of ``transformers``, and turn every failure into one line."""
        self._pin()
        return self._call(what, loader, self.location, **self.hub, **more)

    def _call(self, what: str, loader: Callable[..., Any], location: str, **options: Any) -> Any:
        from safetensors import SafetensorError

        try:
            return loader(location, **options)
        except (OSError, ValueError, TypeError, LookupError, RuntimeError, ImportError, SafetensorError) as error:
            raise UsageError(f"{self.where}: {self._reason(what, error)}") from error

    def _reason(self, what: str, error: Exception) -> str:
        if self.local:
            pointers = sorted(path.name for path in Path(self.location).iterdir() if is_pointer(path))
            if pointers:
                return f"{pointers[0]} is a git-LFS pointer, not the file itself; run 'git lfs pull' in the directory"
        return f"{what} cannot be loaded: {_line(error)}"

    def _pin(self) -> None:
        """Replace the revision of a model on the hub by its commit, so that all files are of the same."""
        if self.local:
            return
        config = fetch(self.location, "config.json", self.hub, self.where, self.example)
        if config is None and is_offline(self.hub):
            raise UsageError(
                f"{self.where}: no such directory, config.json of revision {str(self.hub['revision'])[:80]} is not in"
                f" the hub's cache, and {OFFLINE}, or {local_directory(self.example)}"
            )
        if config is None:
            raise UsageError(f"{self.where}: this model of the hub has no config.json; give one for transformers")
        self.hub["revision"] = config.parent.name

    def _weights(self, also: Sequence[str]) -> Weights:
        """Return the files of the weights, downloaded if they are not in the hub's cache."""
        if self.local:
            return weights_in(Path(self.location), self.where)
        self._pin()
        revision, refresh = self.hub["revision"], self.hub.get("force_download", False)
        found = None
        if not refresh:  # else each file that the model lacks would ask the hub, at every start
            with suppress(UsageError):  # not all of its parts are there yet
                found = find_weights(lambda name: cached(self.location, name, revision), self.where)
        found = found or find_weights(self._fetch, self.where)
        if found is None and is_offline(self.hub):
            raise UsageError(f"{self.where}: its weights are not in the hub's cache, and {OFFLINE}")
        if found is None:
            raise UsageError(f"{self.where}: the hub has no weights of it (model.safetensors or pytorch_model.bin)")
        for name in also:
            if refresh or cached(self.location, name, revision) is None:
                self._fetch(name)
        return found

    def _fetch(self, name: str) -> Path | None:
        if not is_offline(self.hub):
            logger.info("%s: looking for %s on the hub", self.where, name)
        return fetch(self.location, name, self.hub, self.where, self.example)

    def _report_unused(self, model: Any, names: Sequence[str]) -> None:
        """Report weights that the model has no place for."""
        prefix, parts = f"{model.base_model_prefix}.", {name for name, _ in model.named_children()}
        own = [name for name in names if name.removeprefix(prefix).partition(".")[0] in parts]
        heads = [name for name in names if name not in set(own)]
        if own:
            logger.warning(
                "%s: %d weights of the file are not used, for example %s: config.json describes a smaller model",
                self.where, len(own), _listed(own),
            )  # fmt: skip
        if heads:
            logger.info("%s: weights of its head are not used: %s", self.where, _listed(heads))


def find_pretrained(
    model: str | Path,
    flag: str,
    revision: str | None = None,
    example: str = "",
    check: Callable[[dict[str, Any], str], object] | None = None,
    **hub: Any,
) -> Pretrained:
    """Locate a model, and check a directory before anything is loaded from it.

    Args:
        model: directory with ``config.json``, tokenizer and weights, or id on the hub
        flag: that named it, for messages
        revision: branch, tag or commit on the hub
        example: how to name a local directory on the command line, for messages
        check: called with a directory's config and the model's name in messages, before its weights are looked for
        hub: options of ``from_pretrained``

    Raises:
        UsageError: neither a directory with a model nor of the form of an id; or a revision of a directory
    """
    where, path = f"{flag} {model}", Path(model).expanduser()
    if path.is_dir():
        if revision is not None:
            raise UsageError(f"{where}: a revision is for models on the hub, not for a directory; leave it out")
        values = _config_of(path, where)
        if check is not None:
            check(values, where)
        weights_in(path, where)
        return Pretrained(str(path), where, True, {"trust_remote_code": False})
    if path.exists():
        raise UsageError(f"{where}: is a file; give the directory of config.json and the weights")
    if not HUB_ID.fullmatch(str(model)):
        raise UsageError(f"{where}: no such directory, and not of the form org/name of a hub id either")
    hub |= {"trust_remote_code": False, "revision": revision or PINNED.get(str(model)) or "main"}
    return Pretrained(str(model), where, False, hub, example)


def vocabulary_hash(tokenizer: Any) -> str:
    """Return a hash of all tokens and their numbers."""
    return hash_of(sorted(tokenizer.get_vocab().items()))


def tokenizer_hash(tokenizer: Any) -> str:
    """Return a hash of everything that affects how a text is split into tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer in Python: hash its options
        options = {key: str(value) for key, value in tokenizer.init_kwargs.items() if "name_or_path" not in key}
        return hash_of([type(tokenizer).__name__, options, vocabulary_hash(tokenizer)])
    content = json.loads(backend.to_str())
    return hash_of({key: value for key, value in content.items() if key not in ("truncation", "padding")})


def config_values(config: Any) -> dict[str, Any]:
    """Return the values of a config that can change the model's output, as plain JSON values."""
    values = {key: value for key, value in config.to_dict().items() if key not in NAMES}
    return json.loads(json.dumps(values, sort_keys=True, default=str))


def hash_of(value: Any) -> str:
    """Return a hash of plain values that does not depend on the order of keys."""
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())


def _config_of(path: Path, where: str) -> dict[str, Any]:
    """Read a directory's config; check it first, since the errors of ``transformers`` would mention the hub."""
    if not (path / "config.json").is_file():
        raise UsageError(f"{where}: the directory holds no config.json; give the one that save_pretrained wrote")
    check_pointer(path / "config.json", where)
    try:
        values = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: config.json is not readable as JSON: {_line(error)}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{where}: config.json must hold a mapping, as save_pretrained writes it")
    check_sizes(values, where)
    return values


def check_sizes(values: dict[str, Any], where: str) -> None:
    """Refuse the config of a model that cannot be built, or only with more memory than any machine has.

    Raises:
        UsageError: names the key
    """
    reason = wrong_size(values)
    if reason is not None:
        raise UsageError(f"{where}: config.json: {reason}")


def weights_in(folder: Path, where: str) -> Weights:
    """Return the files of the weights in a directory.

    Raises:
        UsageError: there are none, or they cannot be loaded
    """

    def get(name: str) -> Path | None:
        return folder / name if (folder / name).is_file() else None

    found = find_weights(get, where)
    if found is None:
        raise UsageError(f"{where}: the directory holds no weights (model.safetensors or pytorch_model.bin)")
    return found


def _listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and the number of others."""
    shown = ", ".join(name[:80] for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _line(error: Exception, most: int = 200) -> str:
    """Return the first sentence of another library's error, on one line."""
    text = " ".join(str(error).split()).split(". ")[0] or type(error).__name__
    return text if len(text) <= most else f"{text[:most]} …"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and reports of unused weights; missing weights that matter raise errors in this module."""
    from transformers.utils import logging as logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
