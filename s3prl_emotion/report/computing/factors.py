"""Find the two recipe keys by which the systems of a matrix differ, if there are exactly two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Level = bool | int | float | str | None
Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class Factor:
    """A recipe key that systems differ by.

    Attributes:
        key: dotted key
        name: its last part, or all of it where both factors' last parts are the same
        levels: its values; numbers in ascending order, others as the matrix lists them
    """

    key: str
    name: str
    levels: tuple[Level, ...]

    @property
    def numeric(self) -> bool:
        """Whether every level is a number."""
        return all(is_number(level) for level in self.levels)


@dataclass(frozen=True)
class Grid:
    """Systems by the levels of two factors.

    Attributes:
        across: the factor of the horizontal axis: numbers before other levels, then the one with more levels
        lines: the other one
        systems: name of the system by its levels of ``across`` and ``lines``
    """

    across: Factor
    lines: Factor
    systems: dict[tuple[Level, Level], str]


def is_number(level: Level) -> bool:
    """Return whether a level is a number; true and false are none."""
    return isinstance(level, (int, float)) and not isinstance(level, bool)


def grid_of(overrides: Mapping[str, Overrides], recipes: Mapping[str, Mapping[str, Any]]) -> Grid | None:
    """Return the grid that a matrix's systems form, or ``None`` where they differ by one key or by more than two.

    Two systems with the same levels form no grid, nor do systems of which a factor's level meets only one level of the
    other, as in an ablation.

    Args:
        overrides: each system's overrides, as the matrix has them
        recipes: each system's whole recipe, which has the values of the keys that it does not override; of systems
            that have not run it may be missing, which are left out then
    """
    flat = {system: dict(_leaves(values)) for system, values in overrides.items()}
    keys = dict.fromkeys(key for values in flat.values() for key in values)
    known = {system: dict(_leaves(recipe)) for system, recipe in recipes.items()}
    rows = {
        system: {key: values.get(key, known.get(system, {}).get(key)) for key in keys}
        for system, values in flat.items()
        if system in known or values.keys() == keys.keys()
    }
    varying = [key for key in keys if len({row[key] for row in rows.values()}) > 1]
    if len(varying) != 2:
        return None
    systems = {(row[varying[0]], row[varying[1]]): system for system, row in rows.items()}
    first, second = (_factor(varying, place, systems) for place in (0, 1))
    crossed = len(systems) == len(rows) and all(
        sum(cell[place] == level for cell in systems) > 1
        for place, factor in enumerate((first, second))
        for level in factor.levels
    )
    if not crossed:
        return None
    if (second.numeric, len(second.levels)) > (first.numeric, len(first.levels)):
        return Grid(second, first, {(own, other): system for (other, own), system in systems.items()})
    return Grid(first, second, systems)


def _factor(keys: list[str], place: int, systems: Mapping[tuple[Level, Level], str]) -> Factor:
    short = [key.rpartition(".")[2] for key in keys]
    levels = list(dict.fromkeys(cell[place] for cell in systems))
    factor = Factor(keys[place], keys[place] if short[0] == short[1] else short[place], tuple(levels))
    if factor.numeric:
        levels.sort(key=lambda level: float(level))  # type: ignore[arg-type]  # numeric: none is None
    return Factor(factor.key, factor.name, tuple(levels))


def _leaves(values: Any, above: str = "") -> Iterator[tuple[str, Level]]:
    """Yield each value below nested mappings with its dotted key; a list counts as the text that it is written as."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", str(value) if isinstance(value, list) else value
