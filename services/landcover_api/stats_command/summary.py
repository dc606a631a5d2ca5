"""The answers as a table to read: a few features in full, and the sums of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from landcover.statistics.tables import change_pairs

SHOWN_FEATURES = 5
SHOWN_CHANGES = 20
_UNITS = ((1e7, "km²", 1e6), (1e4, "ha", 1e4), (0.0, "m²", 1.0))
"""From so many m² on, the unit, and its m²."""


def print_summary(features: Sequence[Mapping[str, Any]]) -> None:
    """Print it on standard output."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    documents = [each["properties"]["statistics"] for each in features]
    if not documents:
        return
    for number, feature in enumerate(features[:SHOWN_FEATURES], 1):
        document = feature["properties"]["statistics"]
        title = f"{document['scene']} by {document['model']}"
        _print_classes(console, document, f"{_name(feature, number)} · {title}" if len(features) > 1 else title)
        for note in document.get("notes", ()):
            console.print(note)
        if "change" in document:
            _print_change(console, document["change"])
    if len(features) > SHOWN_FEATURES:
        console.print(f"… and {len(features) - SHOWN_FEATURES} more features; --out writes all.")
    if len(features) > 1:
        _print_classes(console, _sum(documents), f"sum of {len(features)} features")


def _print_classes(console: Any, document: Mapping[str, Any], title: str) -> None:
    from rich.table import Table
    from rich.text import Text

    unit, unit_m2 = _unit(document["total_area_m2"])
    entries = [each for each in document["classes"] if each["area_m2"] or each["adjusted_area_m2"]]
    adjusted = any(each["adjusted_area_m2"] is not None for each in entries)
    intervals = any(each["adjusted_ci95_m2"] for each in entries)
    table = Table(title=Text(title), title_justify="left")
    table.add_column("class")
    for heading in (f"area, {unit}", "share", "confidence", *(["adjusted"] if adjusted else [])):
        table.add_column(heading, justify="right")
    if intervals:
        table.add_column("95 % interval", justify="right")
    for each in sorted(entries, key=lambda entry: -float(entry["area_m2"])):
        row: list[Any] = [
            Text.assemble(("■ ", each["color"]), each["name"]),
            _figure(each["area_m2"] / unit_m2),
            f"{each['share']:.1%}",
            f"{each['mean_confidence']:.2f}",
        ]
        if adjusted:
            area_m2 = each["adjusted_area_m2"]
            row.append("" if area_m2 is None else _figure(area_m2 / unit_m2))
        if intervals:
            row.append(" – ".join(_figure(limit_m2 / unit_m2) for limit_m2 in each["adjusted_ci95_m2"] or ()))
        table.add_row(*row)
    if entries:
        console.print(table)
    else:
        console.print(title)
    console.print(
        f"{_figure(document['mapped_area_m2'] / unit_m2)} of {_figure(document['total_area_m2'] / unit_m2)} {unit} "
        f"({document['coverage']:.1%}) are mapped."
    )
    if not document["complete"]:
        console.print("Some blocks inside are not mapped yet: these figures are not final.")


def _print_change(console: Any, change: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    pairs = [(start[1], end[1], area_m2) for start, end, area_m2 in change_pairs(change) if area_m2]
    moved = sorted((each for each in pairs if each[0] != each[1]), key=lambda each: -each[2])
    unit, unit_m2 = _unit(sum(area_m2 for *_, area_m2 in pairs))
    sides = [f"{change[side]['scene']} by {change[side]['model']}" for side in ("from", "to")]
    table = Table("from", "to", title=Text(f"from {sides[0]} to {sides[1]}"), title_justify="left")
    table.add_column(f"area, {unit}", justify="right")
    for start, end, area_m2 in moved[:SHOWN_CHANGES]:
        table.add_row(start, end, _figure(area_m2 / unit_m2))
    if moved:
        console.print(table)
    if len(moved) > SHOWN_CHANGES:
        console.print(f"… and {len(moved) - SHOWN_CHANGES} smaller ones; --out writes all.")
    same_m2 = sum(area_m2 for start, end, area_m2 in pairs if start == end)
    console.print(f"{_figure(same_m2 / unit_m2)} {unit} stay what they were.")
    if change.get("unsure_m2"):
        console.print(f"{_figure(change['unsure_m2'] / unit_m2)} {unit} are too unsure to count.")


def _sum(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One document for all: areas add up, intervals do not, since all share the errors of one model."""
    total_m2 = sum(each["total_area_m2"] for each in documents)
    mapped_m2 = sum(each["mapped_area_m2"] for each in documents)
    classes = []
    for entries in zip(*(each["classes"] for each in documents), strict=True):
        area_m2, pixels = sum(each["area_m2"] for each in entries), sum(each["pixels"] for each in entries)
        adjusted_m2 = [each["adjusted_area_m2"] for each in entries]
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


def _unit(area_m2: float) -> tuple[str, float]:
    return next((unit, size) for least, unit, size in _UNITS if area_m2 >= least)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"
