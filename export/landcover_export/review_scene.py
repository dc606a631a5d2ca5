"""The review of an image on this machine: it is mapped block by block as workers do, and ranked as the service does.

Needs no service. Maps are kept compressed in memory, a tenth of a byte to half a byte for each pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from landcover import block
from landcover.catalog import expand_scenes
from landcover.contract import ModelFile, read_model
from landcover.errors import InvalidConfiguration, InvalidRequest
from landcover.grid import BlockIndex, Grid, grid_for
from landcover.reading import SceneReader
from landcover.review import ByteArray
from landcover.review_document import Review, document
from landcover.review_survey import RankedWindow, ReviewRequest, Survey, check_request, contents, rank
from landcover.scene import Scene, current_version, describe
from landcover.settings import ReadSettings
from landcover_export.evaluation.mapping import Runner
from landcover_export.evaluation.models import onnx_session

OnBlocks = Callable[[int, int], None]
"""Called after each block with the blocks that are done and all of them."""


@dataclass(frozen=True, kw_only=True)
class SceneFile:
    """An image, as one model sees it."""

    scene: Scene
    model: ModelFile
    grid: Grid
    reader: SceneReader

    def map(self, index: BlockIndex, run: Runner) -> tuple[ByteArray, ByteArray]:
        """Class map and confidence of a block, `(block, block)`, 0 where the image has no data."""
        side, halo = self.grid.block_px, self.model.contract.halo_px
        window = self.reader.read(self.scene, self.grid, index, halo)
        if not window.valid.any():
            return np.zeros((2, side, side), np.uint8)[0], np.zeros((side, side), np.uint8)
        inner = slice(halo, halo + side)
        classes, confidence = (
            np.where(window.valid, layer[inner, inner], 0).astype(np.uint8) for layer in run(window.image)
        )
        return classes, confidence


def open_scene(path: Path, model: Path) -> SceneFile:
    """The image at `path` with the ONNX file `model`, checked.

    Raises:
        InvalidConfiguration: `path` is not one image.
        InvalidModel, SceneUnreadable, SceneUnsupported, SceneTooCoarse: as their names say.
    """
    sources = list(expand_scenes(str(path)))
    if len(sources) != 1:
        raise InvalidConfiguration(f"{path} holds {len(sources)} scenes; name one image.")
    settings = ReadSettings()
    scene = describe(sources[0], current_version(sources[0], settings), settings)
    file = read_model(model)
    return SceneFile(scene=scene, model=file, grid=grid_for(scene, file.contract), reader=SceneReader(settings))


@dataclass(frozen=True, kw_only=True)
class SceneReview:
    """A ranked image, its maps at hand."""

    review: Review
    reader: SceneReader
    _maps: dict[BlockIndex, tuple[bytes, ...]] = field(repr=False)

    @property
    def document(self) -> dict[str, Any]:
        """The same document as the service's, without links."""
        return document(self.review)

    def layers(self, window: RankedWindow) -> tuple[ByteArray, ByteArray, ByteArray]:
        """Image `(height, width, 3)`, class map and confidence `(height, width)` of a window, inside the scene."""
        grid, side = self.review.grid, self.review.request.window_px
        index = window.block(self.review.request, grid)
        image = self.reader.read(self.review.scene, grid, index, 0).image
        per_block = grid.block_px // side
        top, left = window.row % per_block * side, window.col % per_block * side
        height, width = grid.block_shape(index)
        at = slice(top, min(top + side, height)), slice(left, min(left + side, width))
        classes, confidence = (block.decode(data, grid.block_px)[at] for data in self._maps[index][:2])
        return image[at], classes, confidence


def review_scene(
    file: SceneFile, request: ReviewRequest, *, against: Path | None = None, on_block: OnBlocks | None = None
) -> SceneReview:
    """Map the image, by the second model too if there is one, and rank its windows.

    Raises:
        InvalidRequest, RequestTooLarge: the windows cannot be ranked as asked.
        InvalidModel: a network fails.
        SceneChanged, SceneUnreadable: the image cannot be read to its end.
    """
    files = [file]
    if against:
        model = read_model(against)
        if model.digest == file.model.digest:
            raise InvalidRequest(f"Model '{model.name}' never disagrees with itself; name another with --against.")
        grid = grid_for(file.scene, model.contract)
        files.append(SceneFile(scene=file.scene, model=model, grid=grid, reader=file.reader))
    grid, contract = file.grid, file.model.contract
    check_request(request, grid, against=files[1].grid if against else None)
    runs = [onnx_session(each.model.path)[0] for each in files]
    survey = Survey(request, grid, contract)
    compress = zstandard.ZstdCompressor(level=1).compress
    maps: dict[BlockIndex, tuple[bytes, ...]] = {}
    for done, index in enumerate(grid.blocks(), start=1):
        layers = file.map(index, runs[0]) + tuple(
            each.map(index, run)[0] for each, run in zip(files[1:], runs[1:], strict=True)
        )
        survey.add(index, *layers)
        maps[index] = tuple(compress(layer.tobytes()) for layer in layers)
        if on_block:
            on_block(done, grid.rows * grid.cols)
    doubt = survey.doubt()
    windows = []
    for window in rank(doubt, request):
        layers = tuple(block.decode(data, grid.block_px) for data in maps[window.block(request, grid)])
        windows.append((window, contents(window, request, contract, *layers)))
    return SceneReview(
        review=Review(
            scene=file.scene,
            model=file.model,
            grid=grid,
            request=request,
            against=files[1].model if against else None,
            windows=windows,
            candidates=int(np.isfinite(doubt).sum()),
            mapped=survey.mapped,
        ),
        reader=file.reader,
        _maps=maps,
    )
