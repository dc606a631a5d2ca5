"""The demonstration scene: an aerial image that this project draws, with the exact label beside it.

It needs no download, is the same for the same seed, and holds all eight OpenEarthMap classes, so it serves as a
first thing to look at, as endless training material, and as a test whose answer is known for every pixel.
It shows no real place.
"""

from landcover.demo.files import DEMO_SEED, DEMO_SIZE_PX, write_scene
from landcover.demo.render import GSD_M, draw

__all__ = ["DEMO_SEED", "DEMO_SIZE_PX", "GSD_M", "draw", "write_scene"]
