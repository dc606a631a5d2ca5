"""A tile's bytes → its pixels; what is no picture of the right size is refused before it is decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP")
_EIGHT_BITS = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


class NotATile(Exception):
    """The bytes are no tile; the message is the end of a sentence that begins with the tile."""


class WrongTile(NotATile):
    """They are a picture, but not one that can be a tile: asking again will not help."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """A decoded tile."""

    pixels: npt.NDArray[np.uint8]
    """`(tilesize, tilesize, 3)`."""
    valid: npt.NDArray[np.bool_] | None
    """`(tilesize, tilesize)`, True where it is not wholly transparent; None where all of it is valid."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.pixels.nbytes + (0 if self.valid is None else self.valid.nbytes)


def decode(data: bytes, tilesize: int) -> Tile:
    """The picture in `data`.

    Raises:
        WrongTile: it has another size or kind of pixels than tiles have.
        NotATile: it is none, or is truncated.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.size != (tilesize, tilesize):
                width, height = image.size
                raise WrongTile(f"is {width} × {height} px, not {tilesize} × {tilesize}; check `tilesize`")
            if image.mode not in _EIGHT_BITS:
                raise WrongTile(f"has pixels of the kind {image.mode}, not RGB of 8 bits")
            if not image.has_transparency_data:
                return Tile(pixels=np.array(image.convert("RGB")), valid=None)
            colours = np.array(image.convert("RGBA"))
    except WrongTile:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise WrongTile("is far larger than a tile") from None
    except UnidentifiedImageError:
        raise NotATile("is no JPEG, PNG or WebP") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # as Pillow's codecs do
        raise NotATile("is truncated or corrupt") from error
    valid = colours[..., 3] > 0
    return Tile(pixels=np.ascontiguousarray(colours[..., :3]), valid=None if valid.all() else valid)
