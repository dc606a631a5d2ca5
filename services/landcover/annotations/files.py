"""Annotations in files: GeoJSON, and GeoPackage for QGIS."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import Polygon

from landcover.annotations import qgis
from landcover.annotations.features import Reading, feature_of, properties_of
from landcover.annotations.geometry import read_wkb, reproject
from landcover.annotations.model import Annotation
from landcover.annotations.vocabulary import ClassTable
from landcover.classes import OPENEARTHMAP, LandCoverClass
from landcover.errors import InvalidRequest
from landcover.geodesy import WGS84
from landcover.geojson import Contents, Fault, listing, read_geojson
from landcover.scene import Scene

LAYER = "annotations"
"""The layer of a GeoPackage that we write."""

_TEXT_FIELDS = ("id", "scene", "class_name", "class_color", "author", "note", "scene_version", "created", "updated")
_FIELDS = ("id", "scene", "class", *_TEXT_FIELDS[2:])


def read_features(
    path: Path | str,
    *,
    classes: Iterable[LandCoverClass] = OPENEARTHMAP,
    scene: str | None = None,
    layer: str | None = None,
    scene_of: Callable[[str], Scene] | None = None,
    new_classes: bool = True,
) -> list[Annotation]:
    """The annotations in a GeoJSON or GeoPackage file, in any CRS that it declares; no database is needed.

    Args:
        path: `.geojson`, `.json` or `.gpkg`.
        classes: the known ones; a feature gives one by value or by name.
        scene: of features that name none.
        layer: of a GeoPackage with several.
        scene_of: finds a scene by id, such as `SceneCatalog.scene`; then geometries must lie inside theirs.
        new_classes: whether the columns `class_name` and `class_color` may bring classes that are not known.

    Raises:
        InvalidRequest: the file cannot be read, or some features cannot be annotations: all are listed.
        LandcoverError: a scene's image cannot be read.
    """
    contents = read_file(Path(path), layer)
    reading = Reading(
        classes=ClassTable.of(classes),
        scene_of=scene_of,
        default_scene=scene,
        crs=contents.crs,
        file_brings_classes=new_classes,
    )
    annotations, faults = judge(contents, reading)
    if faults:
        raise InvalidRequest(f"{path}: {listing(faults)}")
    return annotations


def judge(
    contents: Contents, reading: Reading, advance: Callable[[], object] = lambda: None
) -> tuple[list[Annotation], list[Fault]]:
    """Those features that can be annotations, and what is wrong with the others; `advance` is called for each.

    Raises:
        LandcoverError: a scene's image cannot be read.
    """
    annotations: list[Annotation] = []
    faults: list[Fault] = []
    numbers: dict[str, int] = {}
    for number, feature in enumerate(contents.features, 1):
        try:
            geometry = None if contents.wkb is None else _simple(read_wkb(contents.wkb[number - 1]))
            annotation = reading.annotation(feature, geometry)
            if (first := numbers.setdefault(annotation.id, number)) != number:
                raise InvalidRequest(f"has the id of feature {first}; empty its id to have it added.")
            annotations.append(annotation)
        except InvalidRequest as error:
            faults.append(Fault(number, str(error)))
        advance()
    return annotations, faults


def read_file(path: Path, layer: str | None = None) -> Contents:
    """The features of a GeoJSON or GeoPackage file.

    Raises:
        InvalidRequest: it is missing, something else, or broken.
    """
    if not path.is_file():
        raise InvalidRequest(f"There is no file {path}.")
    if path.suffix.lower() == ".gpkg":
        return _read_geopackage(path, layer)
    if path.suffix.lower() in (".geojson", ".json"):
        try:
            return read_geojson(json.loads(path.read_bytes()))
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{path} is no JSON ({error}).") from error
        except InvalidRequest as error:
            raise InvalidRequest(f"{path}: {error}") from error
    raise InvalidRequest(f"{path} is neither GeoJSON (.geojson, .json) nor a GeoPackage (.gpkg).")


def write_geojson(path: Path, annotations: Iterable[Annotation]) -> None:
    """A FeatureCollection in WGS 84."""
    document = {"type": "FeatureCollection", "features": [feature_of(each) for each in annotations]}
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)  # noqa: PTH105 - as a whole or not at all


def write_geopackage(
    path: Path,
    annotations: Sequence[Annotation],
    *,
    classes: Sequence[LandCoverClass],
    crs: str = WGS84,
    scene: str | None = None,
) -> None:
    """A GeoPackage with one layer, `annotations`, and its QGIS style: colours, and a list of classes to choose from.

    Args:
        path: an existing file is replaced.
        annotations: may be empty: a template.
        classes: those to choose from; each value once.
        crs: of the layer.
        scene: the default of what is drawn anew.
    """
    import pyogrio.raw

    geometries = [reproject(each.geometry, WGS84, crs) for each in annotations]
    rows = [{"id": each.id, **properties_of(each)} for each in annotations]
    columns: list[Any] = [
        np.array([row[name] for row in rows], dtype=np.int32 if name == "class" else object) for name in _FIELDS
    ]
    part = path.with_name(f".part-{path.name}")
    part.unlink(missing_ok=True)
    pyogrio.raw.write(
        part,
        np.array([shapely.to_wkb(each) for each in geometries], dtype=object),
        columns,
        np.array(_FIELDS, dtype=object),
        layer=LAYER,
        driver="GPKG",
        geometry_type="MultiPolygon",
        promote_to_multi=True,
        crs=crs,
        dataset_options={"VERSION": "1.2"},  # QGIS of older distributions warns of what is newer
        layer_options={"GEOMETRY_NAME": qgis.GEOMETRY_COLUMN},
    )
    qgis.add_style(part, LAYER, qgis.style(classes, scene))
    os.replace(part, path)  # noqa: PTH105


def _read_geopackage(path: Path, layer: str | None) -> Contents:
    import pyogrio.raw
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what matters of them is found by `judge`
            meta, _, wkb, columns = pyogrio.raw.read(
                path, layer=layer or _only_layer(path), force_2d=True, datetime_as_string=True
            )
    except (DataSourceError, DataLayerError) as error:
        raise InvalidRequest(f"{path} cannot be read as a GeoPackage ({error}).") from error
    if meta["crs"] is None:
        raise InvalidRequest(f"{path} declares no CRS; set the layer's CRS in QGIS and save it.")
    names = [str(name).lower() for name in meta["fields"]]
    features = [
        {
            "type": "Feature",
            "id": (row := dict(zip(names, map(_plain, values), strict=True))).get("id"),
            "properties": row,
        }
        for values in (zip(*columns, strict=True) if columns else ([] for _ in wkb))
    ]
    return Contents(crs=meta["crs"], features=features, wkb=list(wkb))


def _only_layer(path: Path) -> str:
    import pyogrio

    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if LAYER in layers or len(layers) == 1:
        return LAYER if LAYER in layers else layers[0]
    raise InvalidRequest(
        f"{path} has {len(layers)} layers with geometries ({', '.join(layers) or 'none'}), none called '{LAYER}'; "
        "say which with --layer."
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _simple(geometry: Any) -> Any:
    """A multipolygon of one part as a polygon: tables of one type of geometry wrap them all."""
    parts = shapely.get_parts(geometry)
    return parts[0] if len(parts) == 1 and isinstance(parts[0], Polygon) else geometry
