"""What a round was taught with, in a form that can be checked: a digest of the drawings, their number and area."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import shapely

from landcover.annotations import Annotation
from landcover.contract import AnnotationsUsed

_DIGITS = 8
"""Of a degree, about a millimetre: a file in another CRS gives coordinates back with smaller errors."""


def digest_of_annotations(annotations: Iterable[Annotation]) -> str:
    """`sha256:…` over the geometries and class values, whatever their order, ids and authors.

    A geometry counts as the area that it covers: where its rings begin and which way they run makes no difference.
    """
    parts = sorted(
        each.class_value.to_bytes(1, "big") + shapely.to_wkb(_canonical(each.geometry), byte_order=1)
        for each in annotations
    )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def annotations_used(
    annotations: Sequence[Annotation], ids: Collection[str], area_m2: Mapping[int, float]
) -> AnnotationsUsed:
    """The contract's record of those of `annotations` with `ids`, which label `area_m2` by class value."""
    used = [each for each in annotations if each.id in ids]
    return AnnotationsUsed(
        digest=digest_of_annotations(used),
        polygons=len(used),
        area_m2=round(sum(area_m2.values()), 3),
        scenes=tuple(sorted({each.scene for each in used})),
        authors=tuple(sorted({each.author for each in used if each.author})),
    )


def _canonical(geometry: shapely.Geometry) -> shapely.Geometry:
    def rounded(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.round(points, _DIGITS) + 0.0)  # no negative zero

    return shapely.normalize(shapely.transform(geometry, rounded))
