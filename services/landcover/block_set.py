"""The blocks of one scene by one model: their keys and their tasks."""

from __future__ import annotations

from dataclasses import dataclass

from landcover.grid import BlockIndex
from landcover.keys import BlockKey, OverviewKey
from landcover.queue import BlockTask
from landcover.scene import SceneSource


@dataclass(frozen=True, kw_only=True)
class BlockSet:
    """What the blocks of one request or job have in common."""

    source: SceneSource
    version: str
    digest: str
    decimation: int

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
