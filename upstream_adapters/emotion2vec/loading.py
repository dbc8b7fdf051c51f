"""Load the weights of emotion2vec from what FunASR publishes; no code in a checkpoint is run."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from s3prl_emotion.errors import CheckpointError, UsageError
from s3prl_emotion.files.checkpoint import load_checkpoint
from s3prl_emotion.files.hub import HUB_ID
from s3prl_emotion.upstreams.hub import fetch, local_directory

from .model import KERNELS, STRIDES, Emotion2vec, Sizes

logger = logging.getLogger(__name__)
FILES = ("model.pt", "emotion2vec_base.pt")
KIND = "emotion2vec"
CONTAINERS = ("model", "state_dict", "model_state_dict")
AUDIO = r"modality_encoders\.AUDIO\."
BLOCKS = {
    "attn.qkv": "qkv",
    "attn.proj": "projection",
    "norm1": "norm1",
    "norm2": "norm2",
    "mlp.fc1": "expand",
    "mlp.fc2": "reduce",
}
RENAMED = (  # names of FunASR, and ours
    (rf"{AUDIO}local_encoder\.conv_layers\.(\d+)\.0\.(weight)", r"convolutions.\1.\2"),
    (rf"{AUDIO}local_encoder\.conv_layers\.(\d+)\.2\.1\.(weight|bias)", r"convolution_norms.\1.\2"),
    (rf"{AUDIO}project_features\.1\.(weight|bias)", r"feature_norm.\1"),
    (rf"{AUDIO}project_features\.2\.(weight|bias)", r"projection.\1"),
    (rf"{AUDIO}relative_positional_encoder\.(\d+)\.0\.(weight|bias)", r"positions.\1.\2"),  # numbered from 1
    (rf"{AUDIO}context_encoder\.norm\.(weight|bias)", r"norm.\1"),
    (rf"{AUDIO}extra_tokens", "tokens"),
    (rf"{AUDIO}alibi_scale", "bias_scale"),
    (rf"{AUDIO}context_encoder\.blocks\.(\d+)\.(.+)\.(weight|bias)", r"prenet.\1.\2.\3"),
    (r"blocks\.(\d+)\.(.+)\.(weight|bias)", r"blocks.\1.\2.\3"),
)
COMPUTES = re.compile(rf"{AUDIO}.*|blocks\..*|norm\..*")  # what would change the features
NOT_USED = re.compile(rf"({AUDIO}decoder|proj|_?ema|decoder|shared_decoder|recon_proj|cls_proj|dropout)\b.*")


def find_checkpoint(ckpt: str | Path, revision: str, refresh: bool) -> tuple[Path, tuple[str, str] | None]:
    """Return the file of a checkpoint, and the id and commit of one from the hub.

    Args:
        ckpt: a file, a folder that holds one of :data:`FILES`, or the id of a model on the hub
        revision: branch, tag or commit on the hub
        refresh: download again

    Raises:
        UsageError: there is none; the message says why
    """
    path = Path(ckpt).expanduser()
    if path.is_file():
        return path, None
    names = " or ".join(FILES)
    if path.is_dir():
        for name in FILES:
            if (path / name).is_file():
                return path / name, None
        raise UsageError(f"-k {ckpt}: holds no {names}; name the file of weights that FunASR publishes")
    example = "-u emotion2vec_custom -k DIR"
    match = HUB_ID.fullmatch(str(ckpt))
    if match is None or match["revision"] is not None:
        raise UsageError(f"-k {ckpt}: no such file or folder, and no hub id (OWNER/NAME); {local_directory(example)}")
    options = {"revision": revision, "force_download": refresh}
    for name in FILES:
        found = fetch(str(ckpt), name, options, f"-k {ckpt}", example)
        if found is not None:
            return found, (str(ckpt), found.parent.name)
    raise UsageError(f"-k {ckpt}: {names} is neither in the hub's cache nor to be had; {local_directory(example)}")


def load(path: Path) -> Emotion2vec:
    """Load the network in eval mode.

    Raises:
        CheckpointError: missing, damaged, with code in it, not of emotion2vec, or with parts unknown here
    """
    tensors = _tensors(load_checkpoint(path, required=(), kind=KIND), path)
    renamed, unknown = _renamed(tensors)
    other = sorted(name for name in unknown if COMPUTES.fullmatch(name))
    if other:
        raise CheckpointError(
            f"{path}: an emotion2vec with parts that are not known here ({other[0]}, {len(other)} tensors), without "
            "which its features would be others"
        )
    if unknown:
        shown = ", ".join(sorted(unknown)[:3]) + (", …" if len(unknown) > 3 else "")
        logger.warning("%s: %d tensors are not known here and are left out: %s", path, len(unknown), shown)
    model = Emotion2vec(_sizes(renamed, path))
    expected = model.state_dict()
    missing = sorted(set(expected) - set(renamed))
    if missing:
        raise CheckpointError(f"{path}: not a whole emotion2vec: it lacks {missing[0]} and {len(missing) - 1} more")
    for name, tensor in expected.items():
        if tensor.shape != renamed[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(renamed[name].shape)}, but the others ask for {tuple(tensor.shape)}"
            )
    model.load_state_dict({name: renamed[name].float() for name in expected})
    return model.eval()


def _tensors(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, by their names without the prefix that some files have."""
    for name in CONTAINERS:
        if isinstance(content.get(name), Mapping):
            content = content[name]
            break
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    marks = [name for name in tensors if name.endswith("modality_encoders.AUDIO.extra_tokens")]
    if len(marks) != 1:
        raise CheckpointError(
            f"{path}: not a checkpoint of emotion2vec (it lacks modality_encoders.AUDIO.extra_tokens); name the "
            f"{' or '.join(FILES)} that FunASR publishes"
        )
    prefix = marks[0].removesuffix("modality_encoders.AUDIO.extra_tokens")
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _renamed(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors by the names of :class:`Emotion2vec`, and the names of those that it does not know."""
    found, unknown = {}, []
    for name, tensor in tensors.items():
        ours = _our_name(name)
        if ours is not None:
            found[ours] = tensor
        elif not NOT_USED.fullmatch(name):
            unknown.append(name)
    if "bias_scale" in found and found["bias_scale"].dim() == 4:  # of older files
        found["bias_scale"] = found["bias_scale"].unsqueeze(0)
    return found, unknown


def _our_name(name: str) -> str | None:
    for pattern, ours in RENAMED:
        match = re.fullmatch(pattern, name)
        if match is None:
            continue
        parts = match.expand(ours).split(".")
        if parts[0] == "positions":
            parts[1] = str(int(parts[1]) - 1)
        if parts[0] in ("prenet", "blocks"):
            inside = BLOCKS.get(".".join(parts[2:-1]))
            if inside is None:
                return None
            parts[2:-1] = [inside]
        return ".".join(parts)
    return None


def _sizes(tensors: Mapping[str, Tensor], path: Path) -> Sizes:
    """Return the sizes of the network, from the shapes of its tensors."""

    def count(part: str) -> int:
        numbers = {int(name.split(".")[1]) for name in tensors if name.startswith(f"{part}.")}
        return max(numbers, default=-1) + 1

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        found = tuple(tensors[name].shape) if name in tensors else None
        if found is None or len(found) != dimensions:
            what = "is missing" if found is None else f"has shape {found}"
            raise CheckpointError(f"{path}: not a checkpoint of emotion2vec: {name} {what}")
        return found

    kernels = tuple(shape(f"convolutions.{n}.weight", 3)[2] for n in range(count("convolutions")))
    if kernels != KERNELS:
        raise CheckpointError(
            f"{path}: convolutions over {kernels} samples are not known here, only {KERNELS} (strides {STRIDES})"
        )
    _, tokens, dim = shape("tokens", 3)
    biases, _, heads, *_ = shape("bias_scale", 5)
    prenet, blocks = count("prenet"), count("blocks")
    if biases not in (1, prenet + blocks) or dim % heads or (heads == 1 and dim > 128):
        raise CheckpointError(
            f"{path}: alibi_scale has shape {tuple(tensors['bias_scale'].shape)}, which does not tell the heads of "
            f"{prenet + blocks} blocks of {dim} channels"
        )
    position = shape("positions.0.weight", 3)
    return Sizes(
        channels=shape("convolutions.0.weight", 3)[0],
        dim=dim,
        hidden=shape("blocks.0.expand.weight", 2)[0],
        heads=heads,
        prenet=prenet,
        blocks=blocks,
        tokens=tokens,
        biases=biases,
        position_layers=count("positions"),
        position_kernel=position[2],
        position_groups=max(1, dim // position[1]),
    )
