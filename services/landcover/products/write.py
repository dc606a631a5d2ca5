"""A product's files from its finished blocks: written elsewhere, then put at their places, the STAC Item last.

Nothing here holds more than a few tiles of a map in memory.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from obstore.exceptions import BaseError as StoreError
from rasterio.errors import RasterioError

from landcover.errors import DestinationUnwritable, InvalidConfiguration
from landcover.grid import BlockIndex
from landcover.products.cog import MEDIA_TYPE as COG
from landcover.products.cog import Provenance, attribute_table, write_cogs
from landcover.products.delivery import Delivery, ProductFile, Role
from landcover.products.spec import Outputs, ProductSpec
from landcover.products.spool import Spool

__all__ = ["ProductFile", "check_installed", "write_products"]

_NEEDED = {"pystac": "the STAC item", "shapely": "areas"}


def check_installed(outputs: Outputs) -> None:
    """Tell before hours of work whether all can be written.

    Raises:
        InvalidConfiguration: a package is missing.
    """
    needed = dict(_NEEDED)
    if outputs.vectors != "none":
        needed |= {"pyarrow": "polygons", "pyogrio": "polygons"}
    if outputs.pmtiles:
        needed |= {"pmtiles": "PMTiles", "PIL": "PMTiles"}
    for module, what in needed.items():
        if importlib.util.find_spec(module) is None:
            raise InvalidConfiguration(
                f"Writing {what} needs the Python package {module}; `pip install landcover-tiles[products]` brings it."
            )


def write_products(
    spec: ProductSpec,
    spool: Spool,
    destination: str,
    outputs: Outputs,
    *,
    holes: Mapping[BlockIndex, str],
    provenance: Mapping[str, str],
    work_folder: Path,
    on_progress: Callable[[str, float], None],
) -> list[ProductFile]:
    """Write the files of a product.

    Args:
        spec: what it is of.
        spool: its finished blocks; it stays as it is.
        destination: the class map's path `X.tif` or `s3://bucket/X.tif`. Beside it come `X.tif.aux.xml`,
            `X.confidence.tif`, `X.fgb` or `X.parquet`, `X.pmtiles` and `X.json`.
        outputs: which of them.
        holes: the blocks that are missing, and why.
        provenance: what else its maker says of it, for the tags; `software` is a name and a version.
        work_folder: for files on their way to s3.
        on_progress: told a stage and its share, 0..1; what it raises ends the writing, and nothing of it is left.

    Raises:
        DestinationUnwritable: no room, or no permission; what was at the destination before is still there.
        InvalidRequest: the destination is no `.tif`.
        InvalidConfiguration: a package is missing.
    """
    check_installed(outputs)
    delivery = Delivery(destination, work_folder)
    made = Provenance(made_at=datetime.now(UTC).replace(microsecond=0), holes=holes, more=provenance)
    try:
        with delivery.staging() as folder:
            return _write(spec, spool, delivery, folder, outputs, made, on_progress)
    except (OSError, RasterioError, StoreError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise DestinationUnwritable(
            f"{destination} cannot be written ({reason}); make room, or see to the permissions, and ask again: what "
            "was mapped is kept."
        ) from error


def _write(
    spec: ProductSpec,
    spool: Spool,
    delivery: Delivery,
    folder: Path,
    outputs: Outputs,
    provenance: Provenance,
    on_progress: Callable[[str, float], None],
) -> list[ProductFile]:
    from landcover.products import stac

    def stage(name: str) -> Callable[[float], None]:
        return lambda share: on_progress(name, share)

    classes, confidence = folder / f"{delivery.stem}.tif", folder / f"{delivery.stem}.confidence.tif"
    counts = write_cogs(
        spec,
        spool,
        classes,
        confidence,
        layout=outputs.confidence,
        provenance=provenance,
        on_progress=stage("writing the map"),
    )
    names = classes.with_name(f"{classes.name}.aux.xml")
    names.write_bytes(attribute_table(spec.model.contract.classes, counts))
    made: list[tuple[Role, Path, str]] = [("names", names, "application/xml"), ("classes", classes, COG)]
    if outputs.confidence == "file":
        made.append(("confidence", confidence, COG))
    if outputs.vectors != "none":
        made.append(_write_vectors(spec, classes, confidence, outputs, stage("tracing polygons")))
    if outputs.pmtiles:
        made.append(_write_pmtiles(spec, classes, stage("drawing tiles")))
    files = [delivery.describe(*each) for each in made]
    item = folder / f"{delivery.stem}.json"
    item.write_bytes(
        stac.make_item(
            spec, delivery.stem, files, counts, confidence_band=outputs.confidence == "band", provenance=provenance
        )
    )
    made.append(("item", item, stac.MEDIA_TYPE))
    files.append(delivery.describe(*made[-1]))
    for _, path, media_type in made:
        delivery.put(path, media_type, stage(f"putting {path.name} in place"))
    return files


def _write_vectors(
    spec: ProductSpec, classes: Path, confidence: Path, outputs: Outputs, on_progress: Callable[[float], None]
) -> tuple[Role, Path, str]:
    from landcover.products import vectors

    layers = {
        "none": vectors.Layers(classes=classes, confidence=None),
        "file": vectors.Layers(classes=classes, confidence=confidence),
        "band": vectors.Layers(classes=classes, confidence=classes, confidence_band=2),
    }
    path = classes.with_suffix(vectors.SUFFIXES[outputs.vectors])
    vectors.write_vectors(path, layers[outputs.confidence], spec.model.contract.classes, on_progress)
    return "vectors", path, vectors.MEDIA_TYPES[outputs.vectors]


def _write_pmtiles(spec: ProductSpec, classes: Path, on_progress: Callable[[float], None]) -> tuple[Role, Path, str]:
    from landcover.products import pmtiles

    path = classes.with_suffix(".pmtiles")
    pmtiles.write_pmtiles(path, classes, spec, on_progress)
    return "pmtiles", path, pmtiles.MEDIA_TYPE
