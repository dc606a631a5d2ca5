"""The answers as a file, as text for a pipe, or as a table to read."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from landcover.errors import InvalidRequest
from landcover.vectors import Polygons, to_wgs84

if TYPE_CHECKING:
    from rich.console import Console

Format = Literal["json", "geojson", "csv", "parquet"]

_SUFFIXES: dict[str, Format] = {
    ".json": "json",
    ".geojson": "geojson",
    ".csv": "csv",
    ".parquet": "parquet",
    ".geoparquet": "parquet",
}


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Where the answers go."""

    format: Format | None
    """None: a table."""
    out: Path | None
    """None: standard output."""

    @classmethod
    def chosen(cls, format_: Format | None, out: Path | None) -> Writer:
        """What the command's options mean, before any work is done.

        Raises:
            InvalidRequest: the file's suffix says nothing, or Parquet cannot be written.
        """
        if out is not None and format_ is None and (format_ := _SUFFIXES.get(out.suffix.lower())) is None:
            raise InvalidRequest(f"{out} must end in {', '.join(_SUFFIXES)}; or say what it is with --format.")
        if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
            raise InvalidRequest(f"{out} is a folder." if out.is_dir() else f"There is no folder {out.parent}.")
        if format_ == "parquet" and out is None:
            raise InvalidRequest("Parquet is no text; name a file with --out.")
        if format_ == "parquet" and importlib.util.find_spec("pyarrow") is None:
            raise InvalidRequest("Parquet needs pyarrow: pip install 'landcover-tiles[parquet]'.")
        return cls(format=format_, out=out)

    def write(self, polygons: Polygons, documents: Sequence[Mapping[str, Any] | None], console: Console) -> None:
        """Write the features that have a document.

        Raises:
            InvalidRequest: the file cannot be written.
        """
        from landcover_api.stats_command.summary import print_summary

        answered = [(each, document) for each, document in zip(polygons.features, documents, strict=True) if document]
        polygons = Polygons(
            features=[_with(each, document) for each, document in answered], crs=polygons.crs, single=polygons.single
        )
        if self.format is None:
            print_summary(polygons.features)
        elif self.out is None:
            _to_stdout(_text(self.format, polygons))
        else:
            self._to_file(self.out, polygons)
            print_summary(polygons.features, in_full=0)
            console.print(f"wrote {self.out}", soft_wrap=True, markup=False)

    def _to_file(self, out: Path, polygons: Polygons) -> None:
        from landcover.atomic import atomic_path

        try:
            with atomic_path(out) as temporary:
                if self.format == "parquet":
                    from landcover_api.stats_command.geoparquet import write_geoparquet

                    write_geoparquet(temporary, polygons)
                elif self.format:
                    temporary.write_bytes(_text(self.format, polygons).encode())
        except OSError as error:
            raise InvalidRequest(f"{out} cannot be written ({error.strerror}).") from error


def _text(format_: Format, polygons: Polygons) -> str:
    from landcover.statistics.tables import csv_text

    if format_ == "csv":
        return csv_text({"type": "FeatureCollection", "features": polygons.features})
    if format_ == "geojson":
        return _json({"type": "FeatureCollection", "features": to_wgs84(polygons).features})
    entries = [
        {
            "id": each.get("id"),
            "properties": {name: value for name, value in each["properties"].items() if name != "statistics"},
            "statistics": each["properties"]["statistics"],
        }
        for each in polygons.features
    ]
    return _json(entries[0]["statistics"] if polygons.single else entries)


def _json(document: object) -> str:
    return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"


def _with(feature: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    return {**feature, "properties": {**feature["properties"], "statistics": document}}


def _to_stdout(text: str) -> None:
    """Bytes as they are, whatever the terminal's encoding; whoever reads them may stop early."""
    try:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
