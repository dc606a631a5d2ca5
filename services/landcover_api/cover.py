"""A scene as one model maps it: what a land-cover address names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from landcover.block_set import BlockSet
from landcover.contract import ModelFile
from landcover.grid import Grid, grid_for
from landcover.scene import Scene


@dataclass(frozen=True, kw_only=True)
class LandCover:
    """A scene as one model maps it: what a land-cover address names."""

    scene: Scene
    model: ModelFile
    grid: Grid
    on_demand_blocks: int
    """A request that lacks more is not mapped on demand."""
    whole: bool = False
    """Whether it is known that every zoom can be drawn without mapping anything."""

    @property
    def blocks(self) -> BlockSet:
        """Its blocks in the cache and in tasks."""
        return BlockSet.of(self.scene, self.model, self.grid)


@lru_cache(maxsize=1024)
def land_cover(scene: Scene, model: ModelFile, on_demand_blocks: int) -> LandCover:
    """The land cover of `scene` by `model`.

    Raises:
        SceneTooCoarse: the model was not trained for such pixels.
    """
    grid = grid_for(scene, model.contract)
    return LandCover(scene=scene, model=model, grid=grid, on_demand_blocks=on_demand_blocks)
