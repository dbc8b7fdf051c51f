"""Put SUPERB's published accuracies beside one of ours."""

from __future__ import annotations

import math
from dataclasses import dataclass

from s3prl_emotion.report.computing.scores import Score
from s3prl_emotion.report.reading.literature import Result, literature

PAPER, BOARD, METRIC = "superb", "leaderboard", "WA"
NAMES = {  # of -u, by the leaderboard's name of the upstream; FaST-VGS+ is in no version of s3prl
    "FBANK": ("fbank",),
    "PASE+": ("pase_plus",),
    "APC": ("apc", "apc_360hr"),
    "VQ-APC": ("vq_apc", "vq_apc_360hr"),
    "NPC": ("npc", "npc_360hr"),
    "Mockingjay": ("mockingjay", "mockingjay_origin"),
    "TERA": ("tera", "tera_960hr"),
    "modified CPC": ("modified_cpc",),
    "wav2vec": ("wav2vec", "wav2vec_large"),
    "vq-wav2vec": ("vq_wav2vec", "vq_wav2vec_gumbel"),
    "wav2vec 2.0 Base": ("wav2vec2", "wav2vec2_base_960", "hf_wav2vec2_base"),
    "wav2vec 2.0 Large": ("wav2vec2_large_ll60k", "hf_wav2vec2_large_lv60"),
    "HuBERT Base": ("hubert", "hubert_base", "hf_hubert_base_ls960"),
    "HuBERT Large": ("hubert_large_ll60k", "hf_hubert_large_ll60k"),
    "DeCoAR 2.0": ("decoar2",),
    "DistilHuBERT": ("distilhubert", "distilhubert_base"),
    "FaST-VGS+": (),
    "WavLM Base": ("wavlm_base", "hf_wavlm_base"),
    "WavLM Base+": ("wavlm", "wavlm_base_plus", "hf_wavlm_base_plus"),
    "WavLM Large": ("wavlm_large", "hf_wavlm_large"),
}


@dataclass(frozen=True)
class Comparison:
    """A published accuracy beside ours.

    Attributes:
        upstream: the leaderboard's name of the upstream
        published: its accuracy, 0..1
        difference: ours minus the published one
        place: ``within our interval``, ``below our interval`` or ``above our interval``; empty where there is none
        note: other values that were published for it, or empty
    """

    upstream: str
    published: float
    difference: float
    place: str
    note: str = ""


def published() -> list[Result]:
    """Return the accuracies of SUPERB's leaderboard, as they are published."""
    return [result for result in literature() if result.paper.key == PAPER and result.where.startswith(BOARD)]


def published_upstream(upstream: str, ckpt: str | None) -> str | None:
    """Return the leaderboard's name of an upstream; ``None`` where it has no such row.

    Args:
        upstream: name of ``-u``
        ckpt: ``-k``, whose weights may be any
    """
    return next((row for row, names in NAMES.items() if upstream in names), None) if ckpt is None else None


def compare(ours: Score) -> list[Comparison]:
    """Return every published accuracy beside ours, the highest first."""
    ranked = sorted(published(), key=lambda result: -result.value)
    return [
        Comparison(result.upstream, result.value, ours.mean - result.value, _place(result.value, ours), result.note)
        for result in ranked
    ]


def _place(value: float, ours: Score) -> str:
    if not (math.isfinite(ours.low) and math.isfinite(ours.high)):
        return ""
    if value < ours.low:
        return "below our interval"
    return "above our interval" if value > ours.high else "within our interval"
