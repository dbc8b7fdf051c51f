"""Name datasets on the Hugging Face hub, and fetch them into the hub's own cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from s3prl_emotion.errors import LabelError

PREFIX = "hf://"
ADDRESS = re.compile(
    r"(?:datasets/)?(?P<id>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?::(?P<config>[\w.-]{1,100}))?"
    r"(?:@(?P<revision>[\w./-]{1,200}))?",
    re.ASCII,
)
FILES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".gz", ".bz2", ".zip", ".xz", ".parquet", ".yaml", ".npz", ".xlsx")


@dataclass(frozen=True)
class HubDataset:
    """A dataset on the hub: ``hf://OWNER/NAME[:CONFIG][@REVISION]``, and its name as the user wrote it."""

    name: str
    id: str
    config: str | None
    revision: str | None


def hub_dataset(labels: str) -> HubDataset | None:
    """Return the dataset that labels name: an address, or ``OWNER/NAME`` that is no path; ``None`` for others.

    Raises:
        LabelError: it begins as an address and is none
    """
    is_address = labels.startswith(PREFIX)
    match = ADDRESS.fullmatch(labels.removeprefix(PREFIX))
    if is_address and match is None:
        raise LabelError(
            f"{labels}: is no address of a dataset; write hf://OWNER/NAME, or hf://OWNER/NAME:CONFIG@REVISION"
        )
    if match is None or (not is_address and _may_be_path(labels)):
        return None
    return HubDataset(labels, match["id"], match["config"], match["revision"])


def _may_be_path(labels: str) -> bool:
    path = Path(labels)
    return labels.lower().endswith(FILES) or path.exists() or path.parent.is_dir()


def fetched(dataset: HubDataset) -> Path:
    """Fetch a dataset into the hub's cache, unless it is there, and return its folder.

    Raises:
        LabelError: there is no such dataset, it is gated, or neither hub nor cache can give it
    """
    from s3prl_emotion.files.hub import dataset_folder

    return dataset_folder(dataset.name, dataset.id, dataset.revision)
