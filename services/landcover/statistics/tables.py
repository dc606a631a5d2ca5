"""Statistics as flat rows and CSV: a row for each feature and class, or for each feature and pair of a change."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CLASS_COLUMNS = (
    "feature",
    "scene",
    "model",
    "class",
    "class_name",
    "pixels",
    "area_m2",
    "share",
    "mean_confidence",
    "adjusted_area_m2",
    "adjusted_low_m2",
    "adjusted_high_m2",
    "coverage",
    "complete",
)
"""Of a row about a class; a feature's own attributes follow."""

CHANGE_COLUMNS = (
    "feature",
    "from_scene",
    "from_model",
    "to_scene",
    "to_model",
    "from_class",
    "from_class_name",
    "to_class",
    "to_class_name",
    "area_m2",
    "discounted",
    "coverage",
    "complete",
)
"""Of a row about ground that went from one class to another, 0 being unknown; a feature's own attributes follow."""

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def rows(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of an answered Feature or FeatureCollection, all with the same keys in the same order.

    `feature` is the feature's id or, without one, its number from 1. An attribute that is called like a column of
    ours becomes `attribute_…`. Documents with a `change` give the rows of that (`CHANGE_COLUMNS`), all pairs of
    classes, also at zero; others give `CLASS_COLUMNS`, all classes, also at zero.
    """
    features = _features(answer)
    columns = _columns(features)
    names = attribute_names(features, taken=columns)
    for number, feature in enumerate(features, 1):
        attributes = _attributes(feature)
        tail = {column: attributes.get(name) for name, column in names.items()}
        identity = feature.get("id")
        head = {"feature": number if identity is None else identity}
        document = feature["properties"]["statistics"]
        for row in (_change_rows if columns is CHANGE_COLUMNS else _class_rows)(document):
            yield {**head, **row, **tail}


def csv_text(answer: Mapping[str, Any]) -> str:
    """The rows as CSV (RFC 4180), with a header even when there are none.

    Nothing is an empty field; lists and objects among the attributes are JSON. A text that a spreadsheet would take
    for a formula gets an apostrophe before it, unless it is a number.
    """
    features = _features(answer)
    columns = _columns(features)
    header = [*columns, *attribute_names(features, taken=columns).values()]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(map(_cell, header))
    writer.writerows(map(_cell, row.values()) for row in rows(answer))
    return text.getvalue()


def attribute_names(features: Sequence[Mapping[str, Any]], taken: Sequence[str]) -> dict[str, str]:
    """The attributes of the features, in the order in which they turn up, and a column's name for each."""
    columns: dict[str, str] = {}
    used = set(taken)
    found = dict.fromkeys(name for feature in features for name in _attributes(feature))
    used |= found.keys() - set(taken)
    for name in found:
        column = name
        if name in taken:
            column = f"attribute_{name}"
            while column in used:
                column += "_"
            used.add(column)
        columns[name] = column
    return columns


def adjusted_interval_m2(entry: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The 95 % interval of a class's error-adjusted area, or nothing twice."""
    low, high = entry["adjusted_ci95_m2"] or (None, None)
    return low, high


def change_pairs(change: Mapping[str, Any]) -> Iterator[tuple[tuple[int, str], tuple[int, str], float]]:
    """Each pair of classes as (value, name) with its area in m², the unknown first."""
    before, after = (
        [(0, "unknown"), *((each["value"], each["name"]) for each in change[side] if each["value"])]
        for side in ("from_classes", "to_classes")
    )
    for start, areas in zip(before, change["area_m2"], strict=True):
        for end, area_m2 in zip(after, areas, strict=True):
            yield start, end, area_m2


def _class_rows(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in document["classes"]:
        low_m2, high_m2 = adjusted_interval_m2(entry)
        yield {
            "scene": document["scene"],
            "model": document["model"],
            "class": entry["value"],
            "class_name": entry["name"],
            "pixels": entry["pixels"],
            "area_m2": entry["area_m2"],
            "share": entry["share"],
            "mean_confidence": entry["mean_confidence"],
            "adjusted_area_m2": entry["adjusted_area_m2"],
            "adjusted_low_m2": low_m2,
            "adjusted_high_m2": high_m2,
            "coverage": document["coverage"],
            "complete": document["complete"],
        }


def _change_rows(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    change = document["change"]
    for (start, start_name), (end, end_name), area_m2 in change_pairs(change):
        yield {
            "from_scene": change["from"]["scene"],
            "from_model": change["from"]["model"],
            "to_scene": change["to"]["scene"],
            "to_model": change["to"]["model"],
            "from_class": start,
            "from_class_name": start_name,
            "to_class": end,
            "to_class_name": end_name,
            "area_m2": area_m2,
            "discounted": change["discounted"],
            "coverage": document["coverage"],
            "complete": document["complete"],
        }


def _columns(features: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    changed = bool(features) and "change" in features[0]["properties"]["statistics"]
    return CHANGE_COLUMNS if changed else CLASS_COLUMNS


def _features(answer: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return answer["features"] if answer["type"] == "FeatureCollection" else [answer]


def _attributes(feature: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in feature["properties"].items() if name != "statistics"}


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS) and not _is_number(value):
        return f"'{value}"
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
