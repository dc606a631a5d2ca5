"""Every key in the cache and the broker, made of domain values alone.

A new image or a new model simply has other keys: nothing is ever invalidated, two models are served side by
side, and a rollback is instant. The braces are Redis Cluster's hash tag: a block's keys lie on one node.
"""

from __future__ import annotations

from dataclasses import dataclass

from landcover.grid import GRID_VERSION, BlockIndex

DONE_CHANNEL = "landcover:done"
"""Pub/Sub channel of the cache: the `BlockKey.text` of every block that was finished or has failed."""

DEAD_LETTERS = "landcover:dead"
"""Hash in the broker: `BlockKey.text` → JSON with the task and the reason (`dead_letters.DeadLetter`)."""

PRODUCTS = "landcover:products"
"""Hash in the broker: a product's id → JSON of its `ProductRecord`."""

WORKER_PREFIX = "landcover:worker:"
"""Keys in the broker, one for each living worker, with what it runs."""


@dataclass(frozen=True, slots=True)
class JobKeys:
    """Where the jobs of one kind are kept: in the broker, if nothing else is said."""

    kind: str

    @property
    def index(self) -> str:
        """Sorted set: the ids of jobs by the time of their submission."""
        return f"landcover:{self.kind}:jobs"

    @property
    def open(self) -> str:
        """Sorted set: of these, the jobs that have not ended."""
        return f"landcover:{self.kind}:open"

    def record(self, job: str) -> str:
        """Hash: what is known of a job."""
        return f"landcover:{self.kind}:{{{job}}}:job"

    def lease(self, job: str) -> str:
        """Kept alive by whoever is at the job."""
        return f"landcover:{self.kind}:{{{job}}}:lease"

    def request(self, job: str) -> str:
        """What was asked for, until the job has ended."""
        return f"landcover:{self.kind}:{{{job}}}:request"

    def result(self, job: str) -> str:
        """In the cache: what came out."""
        return f"landcover:{self.kind}:{{{job}}}:result"


TRAINING_JOBS = JobKeys("train")
STATISTICS_JOBS = JobKeys("statistics")
MAP_JOBS = JobKeys("map")


@dataclass(frozen=True, slots=True)
class BlockKey:
    """Names one block of one version of a scene, as one model sees it."""

    scene: str
    version: str
    digest: str
    decimation: int
    index: BlockIndex

    @property
    def text(self) -> str:
        """The key without what it is the key of."""
        model = self.digest.removeprefix("sha256:")[:32]
        return (
            f"g{GRID_VERSION}:{self.scene}:{self.version}:{model}:{self.decimation}:{self.index.row}:{self.index.col}"
        )

    @property
    def block(self) -> str:
        """Cache: the hash with the finished block."""
        return f"block:{{{self.text}}}"

    @property
    def marker(self) -> str:
        """Cache: who was asked to make it, while somebody waits for it."""
        return f"marker:{{{self.text}}}"

    @property
    def lease(self) -> str:
        """Cache: kept alive by the worker that is making it."""
        return f"lease:{{{self.text}}}"

    @property
    def failure(self) -> str:
        """Cache: why it could not be made, for a short while."""
        return f"failure:{{{self.text}}}"

    @property
    def attempts(self) -> str:
        """Broker: how often a worker began it and did not end."""
        return f"landcover:attempts:{self.text}"


@dataclass(frozen=True, slots=True)
class OverviewKey:
    """Names one overview of the blocks of one version of a scene, as one model sees it."""

    scene: str
    version: str
    digest: str
    decimation: int
    """Of the blocks."""
    scale: int
    index: BlockIndex
    """At this scale."""

    @property
    def overview(self) -> str:
        """Cache: the hash with the finished overview."""
        model = self.digest.removeprefix("sha256:")[:32]
        return (
            f"over:{{g{GRID_VERSION}:{self.scene}:{self.version}:{model}:{self.decimation}:{self.scale}:"
            f"{self.index.row}:{self.index.col}}}"
        )


def square_key(
    *, scene: str, version: str, digest: str, decimation: int, least: int, level: int, row: int, col: int
) -> str:
    """Cache: the sums of a square of blocks, pixels of a confidence below `least` being unknown."""
    model = digest.removeprefix("sha256:")[:32]
    return f"sums:g{GRID_VERSION}:{scene}:{version}:{model}:{decimation}:{least}:{level}:{row}:{col}"


def tile_key(*, scene: str, version: str, digest: str, tms: str, z: int, x: int, y: int, rendering: str) -> str:
    """Cache: a finished tile's bytes; `rendering` names format, size, layer and filter."""
    return f"tile:g{GRID_VERSION}:{scene}:{version}:{digest.removeprefix('sha256:')[:32]}:{tms}:{z}:{x}:{y}:{rendering}"
