"""Where the files of a product go: each is finished elsewhere first, and appears at its place whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from obstore.store import from_url
from pydantic import BaseModel, ConfigDict

from landcover.errors import InvalidRequest

Role = Literal["classes", "names", "confidence", "vectors", "pmtiles", "item"]

_CHUNK_BYTES = 8 << 20
_S3 = "s3://"
_S3_TIMEOUT_S = 60


class ProductFile(BaseModel):
    """One file of a product."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    """`names` is GDAL's sidecar of the class map."""
    location: str
    """A path, or an s3 URL."""
    media_type: str
    size_bytes: int
    sha256: str
    """64 hexadecimal digits."""

    @property
    def name(self) -> str:
        """Without folders."""
        return self.location.rpartition("/")[2]


class Delivery:
    """The files of one product on their way to a folder or a bucket."""

    def __init__(self, destination: str, work_folder: Path) -> None:
        """Prepare the way to `destination`, the class map's path or s3 URL.

        Files for s3 are finished in `work_folder`, others in the destination's own, so that they need only be renamed.

        Raises:
            InvalidRequest: it is no `.tif`.
        """
        self._remote = destination.startswith(_S3)
        place, slash, name = destination.removeprefix(_S3).rpartition("/")
        self._place = place if self._remote else place or slash or "."
        """A folder, or a bucket and what its keys begin with."""
        self.stem = name.removesuffix(".tif")
        if self.stem in ("", name) or not self._place:
            raise InvalidRequest(f"{destination} cannot be a product's place; give one that ends with NAME.tif.")
        self._folder = (work_folder if self._remote else Path(self._place)) / f".{self.stem}.part"

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder for files that are not finished; what a killed process left in it goes first, all of it last."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        try:
            yield self._folder
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def describe(self, role: Role, staged: Path, media_type: str) -> ProductFile:
        """What a finished file will be at its place."""
        with staged.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ProductFile(
            role=role,
            location=self._location(staged),
            media_type=media_type,
            size_bytes=staged.stat().st_size,
            sha256=digest,
        )

    def put(self, staged: Path, media_type: str, on_progress: Callable[[float], None]) -> None:
        """Bring a finished file to its place, over what is there."""
        if self._remote:
            self._upload(staged, media_type, on_progress)
        else:
            staged.replace(self._location(staged))

    def _location(self, staged: Path) -> str:
        return f"{_S3}{self._place}/{staged.name}" if self._remote else str(Path(self._place) / staged.name)

    def _upload(self, staged: Path, media_type: str, on_progress: Callable[[float], None]) -> None:
        size = staged.stat().st_size

        def chunks() -> Iterator[bytes]:
            with staged.open("rb") as file:
                for data in iter(lambda: file.read(_CHUNK_BYTES), b""):
                    yield data
                    on_progress(file.tell() / max(size, 1))

        bucket, _, folder = self._place.partition("/")
        options: dict[str, Any] = {
            "client_options": {"timeout": timedelta(seconds=_S3_TIMEOUT_S), "allow_http": True},
            "retry_config": {"max_retries": 5, "retry_timeout": timedelta(seconds=_S3_TIMEOUT_S)},
        }
        store = from_url(f"{_S3}{bucket}", **options)
        key = f"{folder.strip('/')}/{staged.name}".lstrip("/")
        # The object is there when the last part is: an upload that breaks off leaves what was there before.
        store.put(key, chunks(), attributes={"Content-Type": media_type}, use_multipart=True, chunk_size=_CHUNK_BYTES)
