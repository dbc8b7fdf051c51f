"""The base of a recipe's sections: a typed, strict class each, so that a typo never becomes a default."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from s3prl_emotion.errors import ConfigError, nearest
from s3prl_emotion.limits import shown

Section = TypeVar("Section", bound="StrictSection")


class StrictSection(BaseModel):
    """Base of the sections: unknown keys and wrong types are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    @classmethod
    def read(cls: type[Section], values: Any, where: str) -> Section:
        """Check ``values`` (a mapping from YAML) and build the section.

        Raises:
            ConfigError: names ``where`` and the key, and the nearest known key
        """
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: must be a mapping of keys to values, got {shown(values)}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            # a misspelt key first: the key that was meant is then missing as well
            first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise ConfigError(f"{where}.{key}: unknown key{nearest(key, cls.model_fields)}") from error
            if first["type"] == "missing":
                raise ConfigError(f"{where}.{key}: this key is required") from error
            reason = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{where}.{key}: {reason}, got {shown(first['input'])}") from error


def as_number(value: Any) -> Any:
    """Return a number that YAML takes for a word, as it does ``1e-4`` (and not ``1.0e-4``)."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def as_range(snr: Any) -> Any:
    """Return one SNR as the range that holds nothing else."""
    return [snr, snr] if isinstance(snr, (int, float)) and not isinstance(snr, bool) else snr
