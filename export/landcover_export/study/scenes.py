"""The Dubai scenes as the study needs them: stitched from their parts, and without what two of them share.

The set's scenes overlap on the ground and carry no georeference. Where two of them show the same place is found by
matching features (SIFT with Lowe's ratio test, a similarity by RANSAC): what a model was taught in one scene must not
count as ground it has never seen in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from landcover_export.labelled import DataError, LabelledImage, find_pairs

ByteArray = npt.NDArray[np.uint8]

_MATCH_SIDE_PX = 1600
"""Scenes are matched at this size: the shift is then good to a few pixels, and the margin covers those."""
MARGIN_PX = 64
MIN_INLIERS = 50
"""Fewer matches that agree on one shift are chance: unrelated scenes of the set reach 19, related ones 73 and more."""


def stitch(root: Path, scene: str) -> LabelledImage:
    """A scene from its nine parts, `scene_001` … `scene_009` row by row, cut to the smallest part's size.

    Raises:
        DataError: there are not nine, or one cannot be read.
    """
    parts = [pair.read() for pair in find_pairs(root, groups=[scene])]
    if len(parts) != 9:
        raise DataError(f"{root / scene} holds {len(parts)} parts; a scene is stitched from nine.")
    height = min(part.label.shape[0] for part in parts)
    width = min(part.label.shape[1] for part in parts)
    images = [part.image[:height, :width] for part in parts]
    labels = [part.label[:height, :width] for part in parts]
    return LabelledImage(name=scene, image=_in_rows(images), label=_in_rows(labels), group=scene)


def parts_of(scene: LabelledImage) -> list[LabelledImage]:
    """The nine parts of a stitched scene, row by row."""
    height, width = scene.label.shape[0] // 3, scene.label.shape[1] // 3
    found = []
    for number in range(9):
        at = (
            slice(number // 3 * height, (number // 3 + 1) * height),
            slice(number % 3 * width, (number % 3 + 1) * width),
        )
        found.append(
            LabelledImage(
                name=f"{scene.name}_{number + 1:03d}", image=scene.image[at], label=scene.label[at], group=scene.group
            )
        )
    return found


def without_overlap(scene: LabelledImage, other: LabelledImage) -> tuple[LabelledImage, float]:
    """`scene` with its labels set to 0 where `other` shows the same ground, and the share of pixels so removed."""
    shift = find_shift(scene.image, other.image)
    if shift is None:
        return scene, 0.0
    x, y = shift
    height, width = scene.label.shape
    other_height, other_width = other.label.shape
    rows = slice(max(0, -y - MARGIN_PX), max(0, min(height, other_height - y + MARGIN_PX)))
    cols = slice(max(0, -x - MARGIN_PX), max(0, min(width, other_width - x + MARGIN_PX)))
    label = scene.label.copy()
    label[rows, cols] = 0
    removed = (rows.stop - rows.start) * (cols.stop - cols.start) / label.size
    return LabelledImage(name=scene.name, image=scene.image, label=label, group=scene.group), removed


def find_shift(image: ByteArray, other: ByteArray) -> tuple[int, int] | None:
    """(x, y) in pixels to add to a place in `image` for its place in `other`; None if they show no common ground."""
    (points, features), (other_points, other_features) = (_features(each) for each in (image, other))
    pairs = [
        (nearest.queryIdx, nearest.trainIdx)
        for nearest, second in cv2.BFMatcher().knnMatch(features, other_features, k=2)
        if nearest.distance < 0.75 * second.distance
    ]
    if len(pairs) < MIN_INLIERS:
        return None
    source, target = points[[a for a, _ in pairs]], other_points[[b for _, b in pairs]]
    matrix, inliers = cv2.estimateAffinePartial2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=8)
    if matrix is None or int(inliers.sum()) < MIN_INLIERS:
        return None
    agreed = inliers.ravel().astype(bool)
    x, y = np.median(target[agreed] - source[agreed], axis=0)
    return round(float(x)), round(float(y))


def _features(image: ByteArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Places (x, y) in pixels `(features, 2)` and SIFT descriptors `(features, 128)`."""
    scale = min(1.0, _MATCH_SIDE_PX / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    found, descriptors = cv2.SIFT.create(8000).detectAndCompute(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), None)
    points = np.array([each.pt for each in found], dtype=np.float32) / np.float32(scale)
    return points, np.asarray(descriptors, dtype=np.float32)


def _in_rows(parts: Sequence[ByteArray]) -> ByteArray:
    return np.concatenate([np.concatenate(parts[row * 3 : row * 3 + 3], axis=1) for row in range(3)])
