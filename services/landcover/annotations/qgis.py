"""How QGIS shows and edits a layer of annotations: a style in QML, kept in the GeoPackage where QGIS looks for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as Xml

from landcover.classes import LandCoverClass

GEOMETRY_COLUMN = "geom"
_FILL_OPACITY = 110
"""Of 255: the image must stay visible under what is drawn on it."""

_HIDDEN = ("id", "class_name", "class_color", "scene_version", "created", "updated")
"""Fields that the form does not show: the import fills them."""

# As QGIS itself makes this table when it saves a style into a GeoPackage.
_TABLE = """
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
  f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
  useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
  update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)
"""


def add_style(path: Path, layer: str, qml: str) -> None:
    """Make `qml` the default style of a layer of the GeoPackage at `path`."""
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(_TABLE)
        file.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', '')"
        )
        file.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
            "styleQML, styleSLD, useAsDefault, description, owner) VALUES ('', '', ?, ?, 'classes', ?, '', 1, "
            "'Land-cover classes', '')",
            (layer, GEOMETRY_COLUMN, qml),
        )


def style(classes: Sequence[LandCoverClass], scene: str | None = None) -> str:
    """QML for QGIS 3: polygons in their class's colour, and a form that asks for class, author and note.

    Name and colour follow the class by expressions, so that they never contradict it. A new polygon gets `scene`, and
    an id at once, so that it is the same one in every import; QGIS makes another for a copy, since ids are unique.
    """
    root = Xml.Element("qgis", version="3.28.0", styleCategories="Symbology|Fields|Forms", readOnly="0")
    _renderer(root, classes)
    _form(root, classes)
    defaults = Xml.SubElement(root, "defaults")
    names = {str(each.value): each.name for each in classes}
    colors = {str(each.value): each.color for each in classes}
    _default(defaults, "id", "uuid()")
    _default(defaults, "class_name", _case(names), follows=True)
    _default(defaults, "class_color", _case(colors), follows=True)
    _default(defaults, "author", "@user_full_name")
    if scene is not None:
        _default(defaults, "scene", _quoted(scene))
    constraints = Xml.SubElement(root, "constraints")
    _constraint(constraints, "id", unique=True)
    _constraint(constraints, "scene", notnull=True)
    _constraint(constraints, "class", notnull=True)
    Xml.SubElement(root, "layerGeometryType").text = "2"
    head = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return head + Xml.tostring(root, encoding="unicode")


def _renderer(root: Xml.Element, classes: Sequence[LandCoverClass]) -> None:
    renderer = Xml.SubElement(root, "renderer-v2", type="categorizedSymbol", attr="class", symbollevels="0")
    categories, symbols = Xml.SubElement(renderer, "categories"), Xml.SubElement(renderer, "symbols")
    for number, each in enumerate(classes):
        Xml.SubElement(
            categories,
            "category",
            value=str(each.value),
            type="long",
            label=each.name,
            symbol=str(number),
            render="true",
        )
        symbol = Xml.SubElement(symbols, "symbol", type="fill", name=str(number), alpha="1", clip_to_extent="1")
        layer = Xml.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
        color = ",".join(map(str, each.rgb))
        _options(
            layer,
            {
                "color": f"{color},{_FILL_OPACITY}",
                "style": "solid",
                "outline_color": f"{color},255",
                "outline_style": "solid",
                "outline_width": "0.5",
                "outline_width_unit": "MM",
            },
        )


def _form(root: Xml.Element, classes: Sequence[LandCoverClass]) -> None:
    fields = Xml.SubElement(root, "fieldConfiguration")
    config = _widget(fields, "class", "ValueMap")
    choices = Xml.SubElement(Xml.SubElement(config, "Option", type="Map"), "Option", name="map", type="List")
    for each in classes:
        _options(choices, {each.name: str(each.value)})
    _options(_widget(fields, "note", "TextEdit"), {"IsMultiline": "true"})
    for name in ("scene", "author"):
        _widget(fields, name, "TextEdit")
    for name in _HIDDEN:
        _widget(fields, name, "Hidden")


def _widget(fields: Xml.Element, name: str, kind: str) -> Xml.Element:
    field = Xml.SubElement(fields, "field", name=name, configurationFlags="None")
    return Xml.SubElement(Xml.SubElement(field, "editWidget", type=kind), "config")


def _options(parent: Xml.Element, values: dict[str, str]) -> None:
    options = Xml.SubElement(parent, "Option", type="Map")
    for name, value in values.items():
        kind = "bool" if value == "true" else "QString"
        Xml.SubElement(options, "Option", name=name, type=kind, value=value)


def _default(defaults: Xml.Element, name: str, expression: str, *, follows: bool = False) -> None:
    Xml.SubElement(defaults, "default", field=name, expression=expression, applyOnUpdate="1" if follows else "0")


def _constraint(constraints: Xml.Element, name: str, *, notnull: bool = False, unique: bool = False) -> None:
    """Hard constraints; the number counts 1 for not null and 2 for unique."""
    Xml.SubElement(
        constraints,
        "constraint",
        field=name,
        constraints=str(notnull + 2 * unique),
        notnull_strength=str(int(notnull)),
        unique_strength=str(int(unique)),
        exp_strength="0",
    )


def _case(texts: dict[str, str]) -> str:
    """A QGIS expression that gives the text of a class value."""
    cases = " ".join(f'WHEN "class" = {value} THEN {_quoted(text)}' for value, text in texts.items())
    return f"CASE {cases} END"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
