"""One XYZ service as its readers see it: the template, the options, and the names it goes by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

from landcover.scene import SceneSource, public_location
from landcover.xyz.options import XyzOptions


@dataclass(frozen=True)
class Service:
    """Where tiles come from."""

    template: str
    options: XyzOptions
    name: str
    """Fit for clients: without query, user or password."""

    @classmethod
    def of(cls, source: SceneSource) -> Service:
        """The service behind a scene.

        Raises:
            ValueError: the scene is of another kind.
        """
        if source.xyz is None:
            raise ValueError(f"{source.id} is no XYZ service")
        return cls(source.location, source.xyz, public_location(source))

    @cached_property
    def origin(self) -> str:
        """Scheme, host and port: whom requests burden."""
        url = urlsplit(self.template)
        return f"{url.scheme}://{url.hostname}:{url.port or (443 if url.scheme == 'https' else 80)}"

    @cached_property
    def imagery(self) -> str:
        """Names the pictures themselves: scenes of other bounds or zooms share their tiles."""
        xyz = self.options
        parts = (self.template, xyz.version, xyz.tilesize, xyz.missing_statuses, xyz.blank_sha256, xyz.headers)
        return hashlib.sha256(repr(parts).encode()).hexdigest()
