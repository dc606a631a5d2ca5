"""Every format decodes back to the same values, colours and place."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pyproj import CRS
from rasterio.io import MemoryFile
from rasterio.transform import from_bounds

from landcover.classes import OPENEARTHMAP
from landcover_api.rendering import ImageFormat, Picture, colors_of, confidence_colors, render
from landcover_api.sampling import Extent

SIZES = [(256, 256), (512, 512), (1, 1), (3, 7), (255, 17)]


def picture(height: int, width: int, layer: str = "class", crs: str = "EPSG:3857") -> Picture:
    """Every value the layer can have, where there is room."""
    values = 9 if layer == "class" else 256
    pixels = np.random.default_rng(0).integers(0, values, (height, width), dtype=np.uint8)
    pixels.ravel()[: min(values, pixels.size)] = np.arange(min(values, pixels.size))
    extent = Extent(
        crs=CRS.from_user_input(crs).to_wkt(),
        xmin=100.0,
        ymin=30.0,
        xmax=160.0,
        ymax=50.0,
        width_px=width,
        height_px=height,
    )
    return Picture(pixels=pixels, colors=colors_of(layer, OPENEARTHMAP), extent=extent)  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", ["class", "confidence"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("image_format", [ImageFormat.PNG, ImageFormat.WEBP])
def test_colours_come_back(image_format: ImageFormat, size: tuple[int, int], layer: str) -> None:
    shown = picture(*size, layer)
    decoded = np.asarray(Image.open(io.BytesIO(render(shown, image_format))).convert("RGBA"))
    expected = shown.colors[shown.pixels]
    assert np.array_equal(decoded[..., 3], expected[..., 3])
    opaque = expected[..., 3] > 0
    assert np.array_equal(decoded[opaque], expected[opaque])


def test_a_png_of_classes_is_a_palette_of_values() -> None:
    """Who reads the palette's indices has the class values."""
    shown = picture(256, 256)
    image = Image.open(io.BytesIO(render(shown, ImageFormat.PNG)))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), shown.pixels)


def test_a_png_of_a_plain_map_is_small() -> None:
    shown = picture(256, 256)
    flat = Picture(
        pixels=np.repeat(np.repeat(shown.pixels[:16, :16], 16, 0), 16, 1), colors=shown.colors, extent=shown.extent
    )
    assert len(render(flat, ImageFormat.PNG)) < 1500


@pytest.mark.parametrize("layer", ["class", "confidence"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:4326", "EPSG:32654"])
def test_a_geotiff_knows_its_place_and_colours(size: tuple[int, int], layer: str, crs: str) -> None:
    shown = picture(*size, layer, crs)
    with MemoryFile(render(shown, ImageFormat.TIF)) as memory, memory.open() as image:
        assert np.array_equal(image.read(1), shown.pixels)
        assert (image.count, image.dtypes[0], image.nodata) == (1, "uint8", 0)
        assert image.crs.to_epsg() == int(crs.removeprefix("EPSG:"))
        assert image.transform.almost_equals(from_bounds(100, 30, 160, 50, size[1], size[0]))
        table = image.colormap(1)
    used = shown.colors[:, 3] > 0
    assert all(table[value][:3] == tuple(shown.colors[value, :3]) for value in np.flatnonzero(used))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_npy_holds_values_and_mask(size: tuple[int, int]) -> None:
    shown = picture(*size)
    values, mask = np.load(io.BytesIO(render(shown, ImageFormat.NPY)))
    assert np.array_equal(values, shown.pixels)
    assert np.array_equal(mask == 255, shown.pixels > 0)
    assert np.isin(mask, (0, 255)).all()


@pytest.mark.parametrize(
    ("image_format", "start"),
    [
        (ImageFormat.PNG, b"\x89PNG"), (ImageFormat.WEBP, b"RIFF"), (ImageFormat.TIF, b"II*\0"),
        (ImageFormat.NPY, b"\x93NUMPY"),
    ],
)  # fmt: skip
def test_the_media_type_is_of_the_bytes(image_format: ImageFormat, start: bytes) -> None:
    assert render(picture(8, 8), image_format).startswith(start)
    assert image_format.media_type.startswith(("image/", "application/"))
    assert len({each.media_type for each in ImageFormat}) == len(ImageFormat)


def test_the_same_picture_is_the_same_bytes() -> None:
    """An ETag says so."""
    for image_format in ImageFormat:
        assert render(picture(64, 64), image_format) == render(picture(64, 64), image_format)


def test_confidence_grows_lighter() -> None:
    """Viridis: from dark violet to yellow, its luminance rising all the way (ITU-R BT.709)."""
    colors = confidence_colors()
    assert colors[0].tolist() == [0, 0, 0, 0]
    assert colors[255].tolist() == [0xFD, 0xE7, 0x25, 255]
    luminance = colors[1:, :3] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) >= -0.5).all()
    assert (colors[1:, 3] == 255).all()
