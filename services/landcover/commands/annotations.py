"""`landcover annotations import|export|list|migrate`: what people drew, between files and the database."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from landcover.catalog import SceneCatalog, load_models, load_scenes
from landcover.classes import LandCoverClass
from landcover.contract import ModelFile
from landcover.errors import InvalidConfiguration, InvalidRequest
from landcover.settings import CatalogSettings, DatabaseSettings, ReadSettings

if TYPE_CHECKING:
    from landcover.annotations.model import Annotation
    from landcover.annotations.store import AnnotationStore


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "annotations",
        help="import, export or list what people drew",
        description="Annotations are polygons with a class that people draw over a scene. The service keeps them in a\n"
        "database; QGIS edits them in a GeoPackage.",
        epilog="examples:\n"
        "  landcover annotations export draw.gpkg --scenes ortho.tif --scene ortho --template   open it in QGIS, draw\n"
        "  landcover annotations import draw.gpkg --scenes ortho.tif\n"
        "  landcover annotations list\n"
        "  landcover annotations export all.geojson",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="import|export|list|migrate", required=True)
    _add_import(actions)
    _add_export(actions)
    listing = actions.add_parser("list", help="how many annotations each scene has of each class")
    listing.set_defaults(run=_list)
    migrate = actions.add_parser(
        "migrate",
        help="bring the database's tables up to date",
        description="Whatever opens the database does this by itself; as a step of its own it lets a deployment see\n"
        "that it went well before the service is replaced.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    migrate.set_defaults(run=_migrate)
    for each in actions.choices.values():
        each.add_argument(
            "--database", metavar="URL", help="sqlite:///FILE or postgresql://… (default: LANDCOVER_DATABASE_URL)"
        )


def _add_import(actions: Any) -> None:
    parser = actions.add_parser(
        "import",
        help="store the polygons of a GeoJSON or GeoPackage file",
        description="Store the polygons of a file. A feature that has the id of a stored annotation replaces it, so a\n"
        "file that was exported can be imported again after editing. What was deleted from the file stays stored.\n"
        "When a feature is not fit, nothing is stored, and each such feature is reported with its reason.",
        epilog="fields:\n  class                     a class's value or name\n"
        "  scene                     the scene's id (or --scene for all that have none)\n"
        "  author, note, id          optional\n"
        "  class_name, class_color   of a class that no model has, with --new-classes\n\n"
        "examples:\n  landcover annotations import draw.gpkg --scenes ortho.tif\n"
        "  landcover annotations import parcels.geojson --scenes ortho.tif --scene ortho --skip-invalid",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="a .geojson, .json or .gpkg file in any CRS that it declares")
    _add_catalogue(parser)
    parser.add_argument("--scene", metavar="ID", help="the scene of features that name none")
    parser.add_argument("--layer", help="of a GeoPackage with several (default: annotations, or the only one)")
    parser.add_argument("--new-classes", action="store_true", help="take classes that no model has, too")
    parser.add_argument("--skip-invalid", action="store_true", help="store the others when some features are not fit")
    parser.set_defaults(run=_import)


def _add_export(actions: Any) -> None:
    parser = actions.add_parser(
        "export",
        help="write annotations to a GeoJSON or GeoPackage file",
        description="Write annotations to a file. A GeoPackage carries a style for QGIS: polygons in their class's\n"
        "colour, and a form with a list of classes to choose from.",
        epilog="examples:\n  landcover annotations export all.geojson\n"
        "  landcover annotations export draw.gpkg --scenes ortho.tif --scene ortho\n"
        "  landcover annotations export draw.gpkg --scenes ortho.tif --scene ortho --template",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="a .geojson, .json or .gpkg file")
    _add_catalogue(parser)
    parser.add_argument(
        "--scene",
        metavar="ID",
        help="only this scene's; a GeoPackage is then in its CRS when --scenes or LANDCOVER_SCENES lead to it",
    )
    parser.add_argument("--template", action="store_true", help="no annotations, only the layer to draw in")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    parser.set_defaults(run=_export)


def _add_catalogue(parser: argparse.ArgumentParser) -> None:
    for name, what in (("scenes", "images"), ("models", "models whose classes are known")):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            action="extend",
            default=[],
            metavar="PATH",
            help=f"{what} (default: LANDCOVER_{name.upper()})",
        )


def _import(arguments: argparse.Namespace) -> None:
    from landcover.annotations.features import Reading
    from landcover.annotations.files import judge, read_file
    from landcover.annotations.vocabulary import ClassTable

    console = Console(stderr=True, highlight=False)
    scenes = _scenes(arguments)
    if not scenes.sources:
        raise InvalidConfiguration(
            "Annotations must lie inside their scenes; say where those are with --scenes or LANDCOVER_SCENES."
        )
    models = _models(arguments)
    contents = read_file(arguments.file, arguments.layer)
    with _store(arguments) as store, Progress(console=console) as progress:
        reading = Reading(
            classes=ClassTable.of(*(model.contract.classes for model in models), store.classes()),
            scene_of=scenes.scene,
            default_scene=arguments.scene,
            crs=contents.crs,
            file_brings_classes=arguments.new_classes,
        )
        task = progress.add_task("checking", total=len(contents.features))
        annotations, faults = judge(contents, reading, lambda: progress.advance(task))
        for fault in faults:
            progress.console.print(str(fault), soft_wrap=True, markup=False)
        if faults and not arguments.skip_invalid:
            raise InvalidRequest(
                f"{len(faults)} of {len(contents.features)} features of {arguments.file} are not fit, as said above; "
                "nothing was stored. Mend them, or store the others with --skip-invalid."
            )
        added, changed, unchanged = _sorted_out(store, annotations)
        store.save(added, changed, reading.brought)
    skipped = f", {len(faults)} skipped" if faults else ""
    print(f"{len(added)} added, {len(changed)} replaced, {unchanged} unchanged{skipped} in {store.address}")


def _sorted_out(
    store: AnnotationStore, annotations: Sequence[Annotation]
) -> tuple[list[Annotation], list[Annotation], int]:
    """Those that are new, those that differ from what is stored under their ids, and how many do not."""
    stored = store.existing([each.id for each in annotations])
    added = [each for each in annotations if each.id not in stored]
    changed = [each for each in annotations if each.id in stored and not each.same_content(stored[each.id])]
    return added, changed, len(annotations) - len(added) - len(changed)


def _export(arguments: argparse.Namespace) -> None:
    from landcover.annotations.files import write_geojson, write_geopackage
    from landcover.annotations.rows import Filter

    path: Path = arguments.file
    suffix = path.suffix.lower()
    if suffix not in (".gpkg", ".geojson", ".json"):
        raise InvalidRequest(f"{path} must end in .gpkg, .geojson or .json.")
    if path.exists() and not arguments.overwrite:
        raise InvalidRequest(f"{path} exists, perhaps with drawings that are not imported yet; see --overwrite.")
    if not path.absolute().parent.is_dir():
        raise InvalidRequest(f"There is no folder {path.absolute().parent}.")
    with _store(arguments) as store:
        annotations = [] if arguments.template else store.all(Filter(scene=arguments.scene))
        brought = store.classes()
    if suffix == ".gpkg":
        scenes = _scenes(arguments)
        known = any(source.id == arguments.scene for source in scenes.sources)
        if arguments.template and not known:
            raise InvalidRequest("A template is made for one scene; name it with --scene, and its image with --scenes.")
        crs = {"crs": scenes.scene(arguments.scene).crs} if known else {}
        classes = _legend(annotations, _models(arguments), brought)
        write_geopackage(path, annotations, classes=classes, scene=arguments.scene, **crs)
    else:
        write_geojson(path, annotations)
    print(f"{len(annotations)} annotations in {path}")


def _legend(
    annotations: Sequence[Annotation], models: Sequence[ModelFile], brought: Sequence[LandCoverClass]
) -> list[LandCoverClass]:
    """The classes to choose from, each value once.

    Raises:
        InvalidRequest: the annotations use a value for two classes.
    """
    from landcover.annotations.vocabulary import ClassTable

    used = ClassTable.of(each.land_cover_class for each in annotations)
    legend = {each.value: each for each in used.classes}
    if len(legend) < len(used.classes):
        raise InvalidRequest(
            f"The annotations use one value for several classes ({used.listing()}); export one scene at a "
            "time, or GeoJSON."
        )
    for each in (*models[0].contract.classes, *brought):
        legend.setdefault(each.value, each)
    return sorted(legend.values(), key=lambda each: each.value)


def _list(arguments: argparse.Namespace) -> None:
    with _store(arguments) as store:
        counts = store.counts()
    table = Table("scene", "class", "name", "annotations", box=None)
    for scene, kind, count in counts:
        table.add_row(scene, str(kind.value), f"[{kind.color}]■[/] {kind.name}", str(count))
    console = Console(width=120, highlight=False)
    if counts:
        console.print(table)
    print(f"{sum(count for *_, count in counts)} annotations in {store.address}")


def _migrate(arguments: argparse.Namespace) -> None:
    with _store(arguments) as store:
        before, after = store.migrate()
    if before == after:
        print(f"{store.address} is up to date (revision {after}).")
    else:
        print(f"{store.address}: revision {before or 'none'} → {after}.")


def _store(arguments: argparse.Namespace) -> AnnotationStore:
    from landcover.annotations.store import AnnotationStore

    return AnnotationStore(arguments.database or DatabaseSettings().database_url)


def _scenes(arguments: argparse.Namespace) -> SceneCatalog:
    settings = CatalogSettings()
    return load_scenes(
        settings.model_copy(update={"scenes": tuple(arguments.scenes) or settings.scenes}), ReadSettings()
    )


def _models(arguments: argparse.Namespace) -> list[ModelFile]:
    """The default model first."""
    settings = CatalogSettings()
    catalog = load_models(settings.model_copy(update={"models": tuple(arguments.models) or settings.models}))
    return [catalog.default, *(each for each in catalog.models if each is not catalog.default)]
