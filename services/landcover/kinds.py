"""The kinds of scenes there are, and what each must offer.

A kind is a package beside this module with a module `kind` that keeps the protocol `Kind`; `KINDS` lists them in the
order in which they are asked, GeoTIFFs last, since they take whatever is left. A kind that needs more of the operator
than a location gives `landcover.scene.SceneSource` a field of its own, a frozen model with all its options, which
a catalogue's entry then carries under that name::

    services/landcover/
        scene.py        SceneSource, Scene: the vocabulary; describe() and current_version() ask the kind
        kinds.py        this: Kind, Windows, kind_of()
        geotiff/kind.py …
        xyz/kind.py     …
        reading.py      SceneReader: halo, mirroring and versions, the same for all kinds

What a kind need not know: models, decimation's choice, halos, scene edges, mirroring, when to ask for versions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import landcover.geotiff.kind
import landcover.mosaic.kind
import landcover.xyz.kind
from landcover.scene import Scene, SceneSource
from landcover.settings import ReadSettings

RowsOrCols = tuple[int, int]
"""First and past the last, in pixels of the grid."""

Pixels = tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]
"""Colours `(height, width, 3)`, and `(height, width)` True where there is data."""


class Windows(Protocol):
    """Reads windows of a kind's scenes; one for a `SceneReader`, shared by its threads."""

    def read(self, scene: Scene, decimation: int, rows: RowsOrCols, cols: RowsOrCols) -> Pixels:
        """Pixels of the grid of `decimation` over `scene`, all inside it.

        A grid pixel is the mean of decimation² scene pixels (`landcover.decimation`): the same in whatever window.
        What cannot be read is an error, never "no data"; retries, if any, happen here. Colours without data should
        be harmless to see in a halo.

        Raises:
            SceneUnreadable, SceneTooSlow, SceneChanged, SceneUnsupported: as their names say.
        """

    def forget(self, scene: Scene) -> None:
        """Drop what is kept (open files, caches) of this version: it was found replaced."""


class Kind(Protocol):
    """One kind of scene; a module with these functions is one."""

    def recognises(self, source: SceneSource) -> bool:
        """Whether `source` is of this kind, by what it says; nothing is opened."""

    def entry_for(self, location: str, *, folder: Path) -> dict[str, Any] | None:
        """The catalogue entry (fields of `SceneSource`; `location` at least) that this location alone amounts to.

        Of a word after `--scenes` or of a catalogue's `location:`; paths in it are relative to `folder`. None where it
        is not of this kind.

        Raises:
            InvalidConfiguration: it is of this kind, but incomplete.
        """

    def version_is_instant(self, source: SceneSource) -> bool:
        """Whether `version` takes microseconds, so that it is asked for with every tile and block.

        Otherwise it is every few seconds by workers, and every `LANDCOVER_SCENE_REVALIDATE_S` by the API.
        """

    def version(self, source: SceneSource, settings: ReadSettings) -> str:
        """`landcover.scene.current_version`."""

    def describe(self, source: SceneSource, version: str, settings: ReadSettings) -> Scene:
        """`landcover.scene.describe`."""

    def windows(self, settings: ReadSettings) -> Windows:
        """The reader of windows."""


KINDS: tuple[Kind, ...] = (landcover.mosaic.kind, landcover.xyz.kind, landcover.geotiff.kind)


def kind_of(source: SceneSource) -> Kind:
    """The kind that `source` is of."""
    return next(kind for kind in KINDS if kind.recognises(source))
