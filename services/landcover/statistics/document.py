"""The figures of a statistics answer, from its sums."""

from __future__ import annotations

from typing import Any

from landcover.contract import Contract
from landcover.statistics.adjusted import adjust
from landcover.statistics.tally import FloatArray, Table


def figures(table: Table, contract: Contract, total_area_m2: float, *, filtered: bool) -> dict[str, Any]:
    """Areas of every class of the contract, also at zero; `share` is of the mapped area.

    Args:
        table: the region's sums.
        contract: of the model that made the map.
        total_area_m2: true area of the region, also of what is not mapped.
        filtered: whether doubtful pixels were made unknown: the confusion matrix tells nothing of what is left.
    """
    values = [each.value for each in contract.classes]
    pixels, confidence, area_m2 = table[:, values]
    mapped = float(area_m2.sum())
    known = None if filtered or contract.metrics is None else adjust(pixels, area_m2, contract.metrics)
    return {
        "total_area_m2": total_area_m2,
        "mapped_area_m2": mapped,
        "coverage": _coverage(mapped, total_area_m2),
        "classes": [
            {
                "value": each.value,
                "name": each.name,
                "color": each.color,
                "pixels": float(pixels[i]),
                "area_m2": float(area_m2[i]),
                "share": float(area_m2[i]) / mapped if mapped else 0.0,
                "mean_confidence": float(confidence[i] / pixels[i]) / 255 if pixels[i] else 0.0,
                "adjusted_area_m2": None if known is None else float(known.area_m2[i]),
                "adjusted_ci95_m2": None if known is None else [float(known.low_m2[i]), float(known.high_m2[i])],
            }
            for i, each in enumerate(contract.classes)
        ],
    }


def change_figures(matrix: FloatArray, before: Contract, after: Contract) -> dict[str, Any]:
    """Area of each pair of classes, m²: rows of `area_m2` are the earlier map's, columns the later one's.

    Args:
        matrix: `(before.max_value + 1, after.max_value + 1)`, m².
        before: contract of the earlier map's model.
        after: of the later one's.
    """
    rows, columns = [0, *(each.value for each in before.classes)], [0, *(each.value for each in after.classes)]
    names = {each.value: each.name for each in after.classes}
    same = sum(float(matrix[each.value, each.value]) for each in before.classes if names.get(each.value) == each.name)
    known = float(matrix[1:, 1:].sum())
    return {
        "from_classes": _legend(before),
        "to_classes": _legend(after),
        "area_m2": matrix[rows][:, columns].tolist(),
        "unchanged_m2": same,
        "changed_m2": max(0.0, known - same),
    }


def _coverage(mapped_m2: float, total_m2: float) -> float:
    """The share that is mapped; all of it to six digits is all of it, since the two areas are measured apart."""
    share = mapped_m2 / total_m2 if total_m2 else 0.0
    return 1.0 if share > 1 - 1e-6 else share


def _legend(contract: Contract) -> list[dict[str, Any]]:
    known = [{"value": each.value, "name": each.name, "color": each.color} for each in contract.classes]
    return [{"value": 0, "name": "unknown", "color": None}, *known]
