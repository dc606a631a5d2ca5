"""The blocks of one scene by one model: their keys and their tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from landcover.contract import ModelFile
from landcover.grid import BlockIndex, Grid
from landcover.keys import BlockKey, OverviewKey
from landcover.queue import BlockTask
from landcover.scene import Scene, SceneSource


@dataclass(frozen=True, kw_only=True)
class BlockSet:
    """What the blocks of one request or job have in common."""

    source: SceneSource
    version: str
    digest: str
    decimation: int

    @classmethod
    def of(cls, scene: Scene, model: ModelFile, grid: Grid) -> Self:
        """Those of a scene as it is now."""
        return cls(source=scene.source, version=scene.version, digest=model.digest, decimation=grid.decimation)

    def task(self, index: BlockIndex) -> BlockTask:
        """The task that makes one of them."""
        return BlockTask(
            source=self.source,
            version=self.version,
            digest=self.digest,
            decimation=self.decimation,
            row=index.row,
            col=index.col,
        )

    def key(self, index: BlockIndex) -> BlockKey:
        """The key of one of them."""
        return BlockKey(self.source.id, self.version, self.digest, self.decimation, index)

    def overview_key(self, scale: int, index: BlockIndex) -> OverviewKey:
        """The key of one of their overviews."""
        return OverviewKey(self.source.id, self.version, self.digest, self.decimation, scale, index)
