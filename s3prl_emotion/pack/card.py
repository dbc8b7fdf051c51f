"""Write the model card of a packed head: metadata that the Hugging Face hub reads, and what its users have to know."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from s3prl_emotion.corpora.seen import SEEN_SPLITS
from s3prl_emotion.metrics import registry
from s3prl_emotion.pack.licenses import OTHER

LIBRARY, TASK = "s3prl-emotion", "audio-classification"
TYPES = {"WA": "accuracy", "UAR": "recall", "macro_f1": "f1"}  # as the hub names them


def write_card(values: dict[str, Any], name: str, license_id: str) -> str:
    """Return the ``README.md`` of a packed head.

    Args:
        values: content of its ``config.yaml``
        name: of the head, as its readers use it: a folder or an id on the hub
        license_id: of the weights, as the hub names it
    """
    upstream = values["upstream"]
    text = _template().render(
        values=values,
        name=name,
        license_id=license_id,
        is_other=license_id == OTHER,
        rows=list(_rows(values["metrics"])),
        speaker_dependent=values["data"]["protocol"] == "random",
        notes=[(part["split"], note) for part in values["metrics"] for note in part["notes"]],
        local_upstream=None if upstream["revision"] else upstream["checkpoint"],
        quote=shlex.quote,
    )
    return f"---\n{_metadata(values, name, license_id)}\n---\n\n{text.strip()}\n"


def _metadata(values: dict[str, Any], name: str, license_id: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    data = values["data"]
    results = [
        EvalResult(
            task_type=TASK,
            task_name="Speech emotion recognition",
            dataset_type=_slug(data["name"]),
            dataset_name=data["name"],
            dataset_config=part["fold"],
            dataset_split=part["split"],
            dataset_args={"protocol": data["protocol"]},
            metric_type=TYPES.get(metric, metric.partition(".")[0].lower()),
            metric_name=registry.label(metric, unit=False),
            metric_value=round(score["value"], 6),
            metric_args=_interval(score),
        )
        for part in values["metrics"]
        if part["split"] not in SEEN_SPLITS  # the checkpoint was chosen on dev
        for metric, score in part["scores"].items()
    ]
    card = ModelCardData(
        license=license_id,
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=["speech-emotion-recognition", "s3prl", LIBRARY, values["head"]],
        base_model=values["upstream"]["base_model"],
        model_name=name.rpartition("/")[2],
        eval_results=results or None,
    )
    return card.to_yaml(line_break="\n").strip()


def _interval(score: dict[str, float]) -> dict[str, Any] | None:
    """Return a score's interval, as the arguments of its metric."""
    if "low" not in score:
        return None
    ends = [round(score[end], 6) for end in ("low", "high")]
    return {"interval": ends, "level": 0.95, "resampled": "speakers"}


def _rows(parts: list[dict[str, Any]]) -> Any:
    """Yield the cells of the table of scores."""
    for part in parts:
        for metric, score in part["scores"].items():
            factor, digits = registry.scale(metric), registry.digits(metric)
            shown = {end: f"{factor * score[end]:.{digits}f}" for end in ("value", "low", "high") if end in score}
            interval = f"{shown['low']} to {shown['high']}" if "low" in shown else "none"
            yield (part["split"], part["fold"], registry.label(metric), shown["value"], interval, part)


def _slug(name: str) -> str:
    return "-".join("".join(sign if sign.isalnum() else " " for sign in name.lower()).split()) or "speech"


@cache
def _template() -> jinja2.Template:
    folder = Path(__file__).with_name("templates")
    loader = jinja2.FileSystemLoader(folder)
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    return environment.get_template("README.md.jinja")
