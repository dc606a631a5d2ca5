"""A figure of the bench: something measured, the floor it is held against, and the ratio of the two."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.table import Table

Better = Literal["higher", "lower"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row of the table."""

    name: str
    """What was measured."""
    against: str
    """What the floor is."""
    measured: float
    floor: float
    ratio: float
    """Of the two: the median of rounds, so not always the quotient of the medians beside it."""
    unit: str
    better: Better
    command: str
    """What measures it again."""
    aim: float | None = None
    """What the ratio is meant to be, at least or at most."""

    @property
    def key(self) -> str:
        """What tells it from every other figure; a record of another run knows it by this."""
        return f"{self.name} / {self.against}"

    def json(self) -> dict[str, Any]:
        """For a document."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a section of the bench found."""

    figures: tuple[Figure, ...]
    details: Any
    """What can be written as JSON: all else that was measured on the way."""


def of_rounds(
    measured: Sequence[float],
    floor: Sequence[float],
    *,
    name: str,
    against: str,
    unit: str,
    better: Better,
    command: str,
    aim: float | None = None,
) -> Figure:
    """The figure of rounds in which both took their turns, so that both met the same moods of the machine."""
    return Figure(
        name=name,
        against=against,
        measured=statistics.median(measured),
        floor=statistics.median(floor),
        ratio=statistics.median(ours / least for ours, least in zip(measured, floor, strict=True)),
        unit=unit,
        better=better,
        command=command,
        aim=aim,
    )


def table(figures: Iterable[Figure]) -> Table:
    """For a terminal."""
    drawn = Table("figure", "measured", "floor", "", "ratio", "good is", box=None, pad_edge=False)
    for column in (1, 2, 4):
        drawn.columns[column].justify = "right"
    for each in figures:
        drawn.add_row(
            each.name,
            f"{_digits(each.measured)} {each.unit}",
            f"{_digits(each.floor)} {each.unit}",
            each.against,
            f"{each.ratio:.3g}" if each.ratio < 100 else f"{each.ratio:,.0f}",
            _good(each),
        )
    return drawn


def _good(figure: Figure) -> str:
    if figure.aim is None:
        return "high" if figure.better == "higher" else "low"
    if figure.better == "higher":
        return f"≥ {figure.aim:g}{'' if figure.ratio >= figure.aim else '  missed'}"
    return f"≤ {figure.aim:g}{'' if figure.ratio <= figure.aim else '  missed'}"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
