"""Land-cover classes: value, name, colour; OpenEarthMap's eight are the default vocabulary."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

UNKNOWN = 0
"""Value of a pixel without data or not yet mapped."""

HexColor = Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")]


class LandCoverClass(BaseModel):
    """One class of a class map."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Annotated[int, Field(ge=1, le=254)]
    """The pixel's value in a class map."""
    name: Annotated[str, Field(min_length=1)]
    color: HexColor
    """`#rrggbb`, lower case."""

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green, blue, 0..255."""
        code = self.color
        return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


# Xia et al., "OpenEarthMap: A Benchmark Dataset for Global High-Resolution Land Cover Mapping", WACV 2023.
OPENEARTHMAP: tuple[LandCoverClass, ...] = (
    LandCoverClass(value=1, name="bareland", color="#800000"),
    LandCoverClass(value=2, name="rangeland", color="#00ff24"),
    LandCoverClass(value=3, name="developed space", color="#949494"),
    LandCoverClass(value=4, name="road", color="#ffffff"),
    LandCoverClass(value=5, name="tree", color="#226126"),
    LandCoverClass(value=6, name="water", color="#0045ff"),
    LandCoverClass(value=7, name="agriculture land", color="#4bb549"),
    LandCoverClass(value=8, name="building", color="#de1f07"),
)


def palette(classes: Iterable[LandCoverClass]) -> npt.NDArray[np.uint8]:
    """RGBA of every pixel value, `(256, 4)`; values that are no class are transparent."""
    table = np.zeros((256, 4), dtype=np.uint8)
    for each in classes:
        table[each.value] = (*each.rgb, 255)
    return table
