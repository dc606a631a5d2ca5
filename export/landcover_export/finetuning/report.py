"""What a round says: tables on the terminal, and the document kept beside the model."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from landcover.contract import AnnotationsUsed, Contract
from landcover_export.finetuning.config import RoundConfig
from landcover_export.finetuning.gate import Row, Verdict
from landcover_export.finetuning.material import Material


def verdict_document(
    verdict: Verdict, config: RoundConfig, material: Material, contract: Contract, digest: str
) -> dict[str, Any]:
    """The verdict and the lineage as JSON: what the model comes from, what it was taught, how it compares."""
    return {
        "promoted": verdict.promoted,
        "reasons": list(verdict.reasons),
        "table": [_row(each) for each in verdict.table],
        "bound": config.bound,
        "model": {"name": contract.name, "version": contract.version, "digest": digest},
        "parent": {
            "path": str(material.parent.path),
            "name": material.parent.contract.name,
            "version": material.parent.contract.version,
            "digest": material.parent.digest,
        },
        "taught": _used(material.taught_used, material.taught.area_m2, material),
        "held_out": _used(material.held_out_used, material.held_out.area_m2, material),
        "polygons": {name: {"taught": taught, "held_out": held} for name, (taught, held) in material.polygons.items()},
        "new_classes": [each.model_dump() for each in material.brought],
        "replay": {"share": config.training.replay, "sources": list(material.base.sources)},
        "notes": list(material.notes),
    }


def verdict_of(document: dict[str, Any]) -> Verdict:
    """The verdict in a document that `verdict_document` made."""
    return Verdict(
        promoted=document["promoted"],
        reasons=tuple(document["reasons"]),
        table=tuple(
            Row(
                on=each["on"],
                figure=each["figure"],
                name=each["class"] or "",
                pixels=each["pixels"],
                parent=_float(each["parent"]),
                child=_float(each["child"]),
                low=_float(each["interval"][0]),
                high=_float(each["interval"][1]),
                fell=each["fell"],
            )
            for each in document["table"]
        ),
    )


def print_material(material: Material, config: RoundConfig, console: Console) -> None:
    """What would be learnt: polygons and area by class, places, replay."""
    names = {each.value: each.name for each in material.student.classes}
    taught_m2, held_m2 = (
        {names[value]: area for value, area in each.items()}
        for each in (material.taught.area_m2, material.held_out.area_m2)
    )
    table = Table(title=f"annotations for {material.parent.contract.name}", title_justify="left")
    table.add_column("class")
    for column in ("polygons", "learnt from", "ha", "held out", "ha"):
        table.add_column(column, justify="right")
    new = {each.name for each in material.brought}
    for name, (taught, held) in material.polygons.items():
        table.add_row(
            f"{name} (new)" if name in new else name,
            str(taught + held),
            str(taught),
            f"{taught_m2.get(name, 0) / 10_000:.3f}",
            str(held),
            f"{held_m2.get(name, 0) / 10_000:.3f}",
        )
    console.print(table)
    console.print(
        f"{len(material.taught.images)} places of {material.side_px} px are learnt from, "
        f"{len(material.held_out.images)} are held out."
    )
    if config.training.replay:
        console.print(f"{config.training.replay:.0%} of the crops are replayed: {'; '.join(material.base.sources)}.")
        if not material.base.held_out:
            console.print(
                "The base set holds nothing out: classes are judged on the held-out annotations alone, so that wrong "
                "annotations cannot be told from right ones."
            )
    else:
        console.print("Nothing is replayed: the network will forget what is not annotated here.", style="yellow")
    for note in material.notes:
        console.print(note, markup=False, highlight=False)


def print_verdict(verdict: Verdict, console: Console) -> None:
    """Parent and child side by side, and the reasons."""
    table = Table(title="parent and child on what neither has learnt from", title_justify="left")
    for column in ("on", "figure"):
        table.add_column(column)
    for column in ("pixels", "parent", "child", "difference", "95 %"):
        table.add_column(column, justify="right")
    for row in verdict.table:
        table.add_row(
            row.on,
            f"{row.figure} {row.name}".strip(),
            str(row.pixels),
            f"{row.parent:.3f}",
            f"{row.child:.3f}",
            f"{row.difference:+.3f}",
            f"{row.low:+.3f} to {row.high:+.3f}" if math.isfinite(row.low) else "",
            style="red" if row.fell else None,
        )
    console.print(table)
    for reason in verdict.reasons:
        console.print(reason, markup=False, highlight=False)
    console.print(
        "promoted" if verdict.promoted else "not promoted", style="bold green" if verdict.promoted else "bold"
    )


def _row(row: Row) -> dict[str, Any]:
    return {
        "on": row.on,
        "figure": row.figure,
        "class": row.name or None,
        "pixels": row.pixels,
        "parent": _number(row.parent),
        "child": _number(row.child),
        "difference": _number(row.difference),
        "interval": [_number(row.low), _number(row.high)],
        "fell": row.fell,
    }


def _used(used: AnnotationsUsed | None, area_m2: dict[int, float], material: Material) -> dict[str, Any] | None:
    if used is None:
        return None
    names = {each.value: each.name for each in material.student.classes}
    return used.model_dump(mode="json") | {
        "area_m2_by_class": {names[value]: round(area, 3) for value, area in sorted(area_m2.items())}
    }


def _float(number: float | None) -> float:
    return math.nan if number is None else number


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
