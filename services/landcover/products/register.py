"""Which products there are, so that tiles and statistics come from them: a register in the broker."""

from __future__ import annotations

import logging
from typing import Any

import redis
from pydantic import BaseModel, ConfigDict, ValidationError

from landcover.grid import BlockIndex, Grid
from landcover.keys import PRODUCTS

logger = logging.getLogger(__name__)


class ProductRecord(BaseModel):
    """A product that is whole, unclipped, and has its confidence: good for any block it covers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    """Of the job that made it."""
    scene: str
    version: str
    digest: str
    decimation: int
    row_px: int
    """Its window of the grid."""
    col_px: int
    height_px: int
    width_px: int
    classes: str
    """Path or s3 URL of the class map, a COG."""
    confidence: str
    """And of the confidence; the same file if `confidence_band` is 2."""
    confidence_band: int = 1
    holes: tuple[tuple[int, int], ...] = ()
    """(row, column) of the blocks that it lacks."""
    made_at: float
    """Seconds since 1970."""

    def covers(self, grid: Grid, index: BlockIndex) -> bool:
        """Whether all of a block that lies on the scene is in the product."""
        height, width = grid.block_shape(index)
        top, left = index.row * grid.block_px - self.row_px, index.col * grid.block_px - self.col_px
        return (
            top >= 0
            and top + height <= self.height_px
            and left >= 0
            and left + width <= self.width_px
            and (index.row, index.col) not in self.holes
        )

    def covers_all(self, grid: Grid) -> bool:
        """Whether it is of the whole scene, without holes."""
        return (self.row_px, self.col_px) == (0, 0) and (
            (self.height_px, self.width_px) == (grid.height_px, grid.width_px) and not self.holes
        )


class ProductRegister:
    """Products by scene, version and model. Each method may raise `redis.RedisError`."""

    def __init__(self, broker: redis.Redis) -> None:
        self._broker = broker

    def add(self, record: ProductRecord) -> None:
        """Have a product be used from now on."""
        self._broker.hset(PRODUCTS, record.id, record.model_dump_json())

    def remove(self, product: str) -> None:
        """Have it be used no more."""
        self._broker.hdel(PRODUCTS, product)

    def all(self) -> list[ProductRecord]:
        """Every product, the newest first."""
        found: Any = self._broker.hgetall(PRODUCTS)
        return parse_products(found)


def parse_products(found: dict[bytes, bytes]) -> list[ProductRecord]:
    """The records of the register, the newest first."""
    records = []
    for name, document in found.items():
        try:
            records.append(ProductRecord.model_validate_json(document))
        except ValidationError:
            logger.warning("the record of product %s is damaged and not used", name.decode(errors="replace"))
    return sorted(records, key=lambda record: -record.made_at)
