"""Load models of ``transformers`` from a directory or the hub; every failure is one line that says how to fix it."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash

from s3prl_emotion.errors import UsageError
from s3prl_emotion.limits import wrong_size
from s3prl_emotion.rng import own_seed

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
    allow_pickle: bool
    remedy: str
    """What to do if the weights are a pickle, for messages."""
    example: str = ""
    """How to name a local directory on the command line, for messages."""

    def commit(self) -> str | None:
        """Return the commit of a model from the hub that was loaded; ``None`` for a directory."""
        from huggingface_hub import try_to_load_from_cache

        path = None
        if not self.local:
            path = try_to_load_from_cache(self.location, "config.json", revision=self.hub["revision"])
        return Path(path).parent.name if isinstance(path, str) else None

    def config(self) -> Any:
        """Read the model's config."""
        import transformers

        with quiet():
            config = self.read("config.json", transformers.AutoConfig.from_pretrained)
        check_sizes(config.to_dict(), self.where)
        return config

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

    def model(self, kind: Any, config: Any, may_miss: str = "", dtype: torch.dtype = torch.float32, **more: Any) -> Any:
        """Read the model, in eval mode; random generators keep their state.

        Args:
            kind: class or auto class of ``transformers``
            config: of the model, which may have fewer layers than the weights
            may_miss: pattern of the names of weights that may be missing, since they are not used
            dtype: of the weights
            more: arguments of ``from_pretrained``

        Raises:
            UsageError: weights are missing, damaged, a pickle, or do not fit the config
        """
        safe = None if self.allow_pickle else True
        with quiet(), own_seed(0):  # missing weights are drawn at random
            model, report = self.read(
                "weights",
                kind.from_pretrained,
                config=config,
                dtype=dtype,
                use_safetensors=safe,
                output_loading_info=True,
                **more,
            )
        missing = sorted(key for key in report["missing_keys"] if not re.fullmatch(may_miss, key))
        if missing:
            raise UsageError(
                f"{self.where}: the weights do not fit config.json: {len(missing)} weights of {type(model).__name__}"
                f" are missing, for example {missing[0]}; give a model whose weights and config belong together"
            )
        return model.eval()

    def read(self, what: str, loader: Callable[..., Any], **more: Any) -> Any:
        """Call a loader of ``transformers``, and turn every failure into one line."""
        from safetensors import SafetensorError

        try:
            return loader(self.location, **self.hub, **more)
        except (OSError, ValueError, TypeError, LookupError, RuntimeError, ImportError, SafetensorError) as error:
            raise UsageError(f"{self.where}: {self._reason(what, error)}") from error
        except (pickle.UnpicklingError, EOFError) as error:
            raise UsageError(f"{self.where}: {what} hold more than tensors, or are damaged: {_line(error)}") from error

    def _reason(self, what: str, error: Exception) -> str:
        if self.local:
            return f"{what} cannot be loaded: {_line(error)}"
        if what == "weights" and "safetensors" in str(error):
            return f"the hub offers no safetensors of this model; {self.remedy}"
        return (
            f"no such directory, and {what} is neither on the hub nor in its cache ({_line(error)}); without the hub,"
            f" give a local directory that holds the model{f': {self.example}' if self.example else ''}"
        )


def find_pretrained(
    model: str | Path,
    flag: str,
    revision: str | None = None,
    allow_pickle: bool = False,
    remedy: str | None = None,
    example: str = "",
    check: Callable[[dict[str, Any], str], object] | None = None,
    **hub: Any,
) -> Pretrained:
    """Locate a model, and check a directory before anything is loaded from it.

    Args:
        model: directory with ``config.json``, tokenizer and weights, or id on the hub
        flag: that named it, for messages
        revision: branch, tag or commit on the hub
        allow_pickle: accept weights in ``.bin`` files too, not only in safetensors
        remedy: what to do if the weights are a pickle, for messages
        example: how to name a local directory on the command line, for messages
        check: called with a directory's config and the model's name in messages, before its weights are looked for
        hub: options of ``from_pretrained``

    Raises:
        UsageError: neither a directory with a model nor of the form of an id; or a revision of a directory
    """
    where, path = f"{flag} {model}", Path(model).expanduser()
    remedy = remedy or "convert them: load the model with transformers and save it with save_pretrained"
    if path.is_dir():
        if revision is not None:
            raise UsageError(f"{where}: a revision is for models on the hub, not for a directory; leave it out")
        values = _config_of(path, where)
        if check is not None:
            check(values, where)
        _check_weights(path, where, allow_pickle, remedy)
        return Pretrained(str(path), where, True, {"trust_remote_code": False}, allow_pickle, remedy)
    if path.exists():
        raise UsageError(f"{where}: is a file; give the directory of config.json and the weights")
    if not HUB_ID.fullmatch(str(model)):
        raise UsageError(f"{where}: no such directory, and not of the form org/name of a hub id either")
    hub |= {"trust_remote_code": False, "revision": revision or PINNED.get(str(model)) or "main"}
    return Pretrained(str(model), where, False, hub, allow_pickle, remedy, example)


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


def _check_weights(path: Path, where: str, allow_pickle: bool, remedy: str) -> None:
    safe = any(path.glob("*.safetensors"))
    if not safe and not any(path.glob("pytorch_model*.bin")):
        raise UsageError(f"{where}: the directory holds no weights (model.safetensors)")
    if not safe and not allow_pickle:
        raise UsageError(f"{where}: the weights are a pickle, not safetensors; {remedy}")


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
