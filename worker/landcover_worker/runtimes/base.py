"""What a session needs of whatever runs its network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]


class Runtime(Protocol):
    """A loaded network, for one thread."""

    @property
    def provider(self) -> str:
        """What runs it, for metrics and logs: `CPUExecutionProvider`, `CUDAExecutionProvider`, `OpenVINO`, …"""

    @property
    def max_batch(self) -> int:
        """The most windows that one run takes."""

    @property
    def warm_sizes(self) -> Sequence[int]:
        """How many windows each of the runs has that make it ready for any number of them."""

    def run(self, windows: Sequence[UInt8Array]) -> tuple[UInt8Array, UInt8Array]:
        """Class values and confidence, `(n, height, width)` each, of n windows `(height, width, 3)` of one size.

        The arrays are the caller's own: no later run writes into them.
        """
