"""Every error this project raises on purpose. The message is a sentence that says what to do.

::

    LandcoverError
    ├── InvalidRequest            the caller asked for something that cannot be
    │   ├── SceneTooCoarse        the image has larger pixels than the model was trained for
    │   └── RequestTooLarge       more blocks than one request may ask for
    ├── AccessDenied              an API key is needed, or another than was sent
    ├── NotFound
    │   ├── SceneNotFound
    │   ├── ModelNotFound
    │   └── AnnotationNotFound
    ├── Conflict                  it contradicts what somebody else has stored
    ├── PreconditionFailed        what is to be changed is no longer what the caller has seen
    ├── SceneUnsupported          an image that can be read, but not as RGB uint8
    ├── SceneUnreadable           the image is missing, truncated or corrupt
    ├── SceneTooSlow              the image's server did not answer in time
    ├── SceneChanged              the image is no longer the version that was asked for
    ├── InvalidModel              an ONNX file whose contract is missing or not true
    ├── InvalidConfiguration      settings or a catalogue that cannot be used
    ├── BlockFailed               a block failed too often and was set aside (dead-lettered)
    ├── DestinationUnwritable     a product cannot be written where it should be
    ├── ProductUnreadable         a product's file is missing, damaged or another one
    └── Unavailable               the broker, the cache or every worker is away; try again
        ├── Busy                  as much is being done as is allowed; try again later
        ├── DatabaseUnavailable   the database of annotations is away
        ├── Pending               not finished within the deadline; try again
        └── BlockDamaged          the cache holds what no worker wrote; it is dropped and made again

`landcover_api.errors` maps each to its HTTP status.
"""

from __future__ import annotations


class LandcoverError(Exception):
    """Base of all errors of this project; `str(error)` is fit to show to a user."""

    @property
    def code(self) -> str:
        """Name under which the error travels through the cache; `from_code` turns it back."""
        return type(self).__name__


class InvalidRequest(LandcoverError):
    """The caller asked for something that cannot be."""


class SceneTooCoarse(InvalidRequest):
    """The image's pixels are larger than any the model was trained for."""


class RequestTooLarge(InvalidRequest):
    """More blocks than one request may ask for."""


class AccessDenied(LandcoverError):
    """The service wants an API key, or another than was sent."""


class NotFound(LandcoverError):
    """There is nothing under that name."""


class SceneNotFound(NotFound):
    """No scene of the catalogue has that id."""


class ModelNotFound(NotFound):
    """No model has that name or digest."""


class AnnotationNotFound(NotFound):
    """No annotation has that id."""


class Conflict(LandcoverError):
    """It contradicts what somebody else has stored."""


class PreconditionFailed(LandcoverError):
    """What is to be changed is no longer what the caller has seen."""


class SceneUnsupported(LandcoverError):
    """The image can be read, but not as three bands of uint8."""


class SceneUnreadable(LandcoverError):
    """The image is missing, truncated or corrupt."""


class SceneTooSlow(LandcoverError):
    """The image's server did not answer in time."""


class SceneChanged(LandcoverError):
    """The image is no longer the version that was asked for."""


class InvalidModel(LandcoverError):
    """An ONNX file whose contract is missing, or contradicts its graph."""


class InvalidConfiguration(LandcoverError):
    """Settings or a catalogue that cannot be used."""


class BlockFailed(LandcoverError):
    """A block failed too often and was set aside."""


class DestinationUnwritable(LandcoverError):
    """A product cannot be written: no room, no permission, or no such place."""


class ProductUnreadable(LandcoverError):
    """A product's file is missing, damaged or not what was registered; its blocks are made by workers then."""


class Unavailable(LandcoverError):
    """The broker, the cache or every worker is away; the same request may succeed later."""


class Busy(Unavailable):
    """As much is being done as is allowed at once."""


class DatabaseUnavailable(Unavailable):
    """The database of annotations does not answer, or cannot be written to."""


class Pending(Unavailable):
    """Not finished within the deadline; the work goes on."""


class BlockDamaged(Unavailable):
    """The cache holds what no worker wrote; it is dropped and made again."""


def from_code(code: str, message: str) -> LandcoverError:
    """Rebuild an error that travelled through the cache as its class name and message."""
    todo = [LandcoverError]
    while todo:
        kind = todo.pop()
        if kind.__name__ == code:
            return kind(message)
        todo.extend(kind.__subclasses__())
    return BlockFailed(message)
