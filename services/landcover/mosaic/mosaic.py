"""A mosaic that has been found fit: its images, their versions, and the grid they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from affine import Affine

from landcover.mosaic.entries import Placement
from landcover.mosaic.layout import Layout
from landcover.scene import Scene, SceneSource


@dataclass(frozen=True, kw_only=True, eq=False)
class MosaicScene(Scene):
    """A mosaic as a scene; `overviews` are those whose pixels are the mosaic's in all its images."""

    layout: Layout
    locations: Sequence[str]
    """Of the images, the topmost first."""
    versions: Sequence[str]
    """Of the images; empty where only the list's version is known."""
    image_overviews: Sequence[tuple[int, ...]]
    """Of the images, in their files' order."""
    declared: Mapping[int, Placement]
    """Places of images that are known from the list alone, to be compared when the image is first read."""

    def member(self, number: int) -> Scene:
        """One image as a scene of its own, on the mosaic's grid: what is read of it needs no resampling.

        `version` is the mosaic's where the image's is not known, so that a new list has the image fetched anew.
        """
        first_row, end_row, first_col, end_col = (int(side) for side in self.layout.boxes[number])
        return Scene(
            source=self.member_source(number),
            version=self.versions[number] or self.version,
            crs=self.crs,
            crs_name=self.crs_name,
            transform=self.transform @ Affine.translation(first_col, first_row),
            width_px=end_col - first_col,
            height_px=end_row - first_row,
            bands=self.bands,
            dtype=self.dtype,
            overviews=self.image_overviews[number] if self.layout.aligned[number] else (),
            gsd_m=self.gsd_m,
            bounds_wgs84=self.bounds_wgs84,
        )

    def member_source(self, number: int) -> SceneSource:
        """One image as a catalogue would name it."""
        return image_source(self.source, self.locations[number])


def as_mosaic(scene: Scene) -> MosaicScene:
    """`scene`, which is a mosaic's: what reads mosaics is given no other."""
    if not isinstance(scene, MosaicScene):
        raise TypeError(f"scene {scene.id} is no mosaic")
    return scene


def image_source(mosaic: SceneSource, location: str) -> SceneSource:
    """One image of `mosaic` as a catalogue would name it."""
    return SceneSource(id=mosaic.id, location=location, bands=mosaic.bands, rescale=mosaic.rescale)
