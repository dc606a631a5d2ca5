"""The answers as a table to read: a few features in full, and the sums of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from landcover.statistics.tables import change_pairs

SHOWN_FEATURES = 5
SHOWN_CHANGES = 20
_UNITS = ((1e7, "km²", 1e6), (1e4, "ha", 1e4), (0.0, "m²", 1.0))
"""From so many m² on, the unit, and its m²."""
_PLAIN: dict[str, Any] = {"box": None, "padding": (0, 2, 0, 0)}
"""Look of the tables: narrow enough for 80 columns."""
_PIPE_WIDTH = 120


@dataclass(frozen=True)
class _Scale:
    """How the areas of one table are written, so that the largest has four digits or more."""

    unit: str
    unit_m2: float
    decimals: int

    @classmethod
    def of(cls, largest_m2: float) -> _Scale:
        unit, unit_m2 = next((unit, size) for least, unit, size in _UNITS if largest_m2 >= least)
        digits = math.floor(math.log10(largest_m2 / unit_m2)) if largest_m2 > 0 else 0
        return cls(unit, unit_m2, min(6, max(0, 3 - digits)))

    def figure(self, area_m2: float) -> str:
        return f"{area_m2 / self.unit_m2:,.{self.decimals}f}"


def print_summary(features: Sequence[Mapping[str, Any]], *, in_full: int = SHOWN_FEATURES) -> None:
    """Print it on standard output, so many of several features in full."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    documents = [each["properties"]["statistics"] for each in features]
    if not documents:
        return
    in_full = 1 if len(features) == 1 else in_full
    for number, (feature, document) in enumerate(zip(features[:in_full], documents, strict=False), 1):
        title = f"{document['scene']} by {document['model']}"
        _print_classes(console, document, f"{_name(feature, number)} · {title}" if len(features) > 1 else title)
        for note in document.get("notes", ()):
            console.print(note)
        if "change" in document:
            _print_change(console, document["change"])
    if in_full and len(features) > in_full:
        console.print(f"… and {len(features) - in_full} more features; --out writes all.")
    if len(features) > 1:
        _print_classes(console, _sum(documents), f"sum of {len(features)} features")


def _print_classes(console: Console, document: Mapping[str, Any], title: str) -> None:
    scale = _Scale.of(document["total_area_m2"])
    entries = [each for each in document["classes"] if each["area_m2"] or each["adjusted_area_m2"]]
    adjusted = any(each["adjusted_area_m2"] is not None for each in entries)
    intervals = any(each["adjusted_ci95_m2"] for each in entries)
    table = Table(title=title, title_justify="left", **_PLAIN)
    table.add_column("class", no_wrap=True)
    headings = [f"area, {scale.unit}", "share", "confidence"]
    for heading in (*headings, *(["adjusted"] if adjusted else []), *(["95 % interval"] if intervals else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in sorted(entries, key=lambda entry: -float(entry["area_m2"])):
        row: list[Any] = [
            Text.assemble(("■ ", each["color"]), each["name"]),
            scale.figure(each["area_m2"]),
            f"{each['share']:.1%}",
            f"{each['mean_confidence']:.2f}" if each["pixels"] else "",
        ]
        if adjusted:
            row.append("" if each["adjusted_area_m2"] is None else scale.figure(each["adjusted_area_m2"]))
        if intervals:
            row.append(" – ".join(map(scale.figure, each["adjusted_ci95_m2"] or ())))
        table.add_row(*row)
    console.print(table if entries else title)
    console.print(
        f"{scale.figure(document['mapped_area_m2'])} of {scale.figure(document['total_area_m2'])} {scale.unit} "
        f"({document['coverage']:.1%}) are mapped."
    )
    if not document["complete"]:
        console.print("Some blocks inside are not mapped yet: these figures are not final.")


def _print_change(console: Console, change: Mapping[str, Any]) -> None:
    pairs = [(start, end, area_m2) for start, end, area_m2 in change_pairs(change) if area_m2]
    known = [each for each in pairs if each[0][0] and each[1][0]]
    moved = sorted((each for each in known if each[0] != each[1]), key=lambda each: -each[2])
    scale = _Scale.of(sum(area_m2 for *_, area_m2 in pairs))
    sides = [f"{change[side]['scene']} by {change[side]['model']}" for side in ("from", "to")]
    table = Table("from", "to", title=f"from {sides[0]} to {sides[1]}", title_justify="left", **_PLAIN)
    table.add_column(f"area, {scale.unit}", justify="right")
    for start, end, area_m2 in moved[:SHOWN_CHANGES]:
        table.add_row(start[1], end[1], scale.figure(area_m2))
    if moved:
        console.print(table)
    if len(moved) > SHOWN_CHANGES:
        console.print(f"… and {len(moved) - SHOWN_CHANGES} smaller ones; --out writes all.")
    changed_m2, known_m2, all_m2 = (sum(each[2] for each in some) for some in (moved, known, pairs))
    console.print(f"{scale.figure(known_m2 - changed_m2)} {scale.unit} stay what they were.")
    if all_m2 > known_m2:
        console.print(f"{scale.figure(all_m2 - known_m2)} {scale.unit} are unknown before or after.")
    if change["unsure_m2"]:
        console.print(f"{scale.figure(change['unsure_m2'])} {scale.unit} are too unsure to count.")


def _sum(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One document for all: areas add up, intervals do not, since all share the errors of one model."""
    total_m2 = sum(each["total_area_m2"] for each in documents)
    mapped_m2 = sum(each["mapped_area_m2"] for each in documents)
    classes = []
    for entries in zip(*(each["classes"] for each in documents), strict=True):
        area_m2, pixels = sum(each["area_m2"] for each in entries), sum(each["pixels"] for each in entries)
        adjusted_m2 = [
            each["adjusted_area_m2"] for each, of in zip(entries, documents, strict=True) if of["mapped_area_m2"]
        ]
        classes.append(
            {
                **entries[0],
                "area_m2": area_m2,
                "share": area_m2 / mapped_m2 if mapped_m2 else 0.0,
                "mean_confidence": (
                    sum(each["mean_confidence"] * each["pixels"] for each in entries) / pixels if pixels else 0.0
                ),
                "adjusted_area_m2": None if None in adjusted_m2 else sum(adjusted_m2),
                "adjusted_ci95_m2": None,
            }
        )
    return {
        "total_area_m2": total_m2,
        "mapped_area_m2": mapped_m2,
        "coverage": min(1.0, mapped_m2 / total_m2) if total_m2 else 0.0,
        "complete": all(each["complete"] for each in documents),
        "classes": classes,
    }


def _name(feature: Mapping[str, Any], number: int) -> str:
    identity = feature.get("id")
    name = feature["properties"].get("name")
    return str(name or f"feature {number if identity is None else identity}")
