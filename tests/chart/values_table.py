"""The table of the chart's values in docs/kubernetes.md, from the comments in values.yaml.

`python tests/chart/values_table.py` writes it; a test fails when it is not what values.yaml says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
VALUES = ROOT / "charts" / "landcover" / "values.yaml"
PAGE = ROOT / "docs" / "kubernetes.md"
BEGIN, END = "<!-- values: tests/chart/values_table.py -->", "<!-- /values -->"


def described(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Path and description of every key that has one: a line `# -- …` just above it."""
    path: list[str] = []
    description = None
    for line in text.splitlines():
        if comment := re.fullmatch(r"\s*# -- (.*)", line):
            description = comment[1]
        elif key := re.match(r"( *)([\w]+):", line):
            path[len(key[1]) // 2 :] = [key[2]]
            if description is not None:
                yield tuple(path), description
            description = None


def make_table(text: str) -> str:
    """The table in Markdown."""
    values = yaml.safe_load(text)
    rows = ["| value | default | meaning |", "| --- | --- | --- |"]
    for path, description in described(text):
        default: Any = values
        for part in path:
            default = default[part]
        shown = json.dumps(default, ensure_ascii=False)
        rows.append(f"| `{'.'.join(path)}` | `{shown}` | {description} |")
    return "\n".join(rows)


def with_table(page: str, table: str) -> str:
    """The page with this table in the place of its old one."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(
        with_table(PAGE.read_text(encoding="utf-8"), make_table(VALUES.read_text(encoding="utf-8"))), encoding="utf-8"
    )
