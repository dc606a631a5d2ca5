"""The images that a MosaicJSON names, in an order that keeps what it says of who lies on top.

https://github.com/developmentseed/mosaicjson-spec: `tiles` has, for each quadkey, paths of images, the first on top.
"""

from __future__ import annotations

from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

from landcover.errors import SceneUnsupported
from landcover.mosaic.entries import Entry


def is_mosaicjson(document: Any) -> bool:
    """Whether a JSON document claims to be one."""
    return isinstance(document, dict) and "mosaicjson" in document and isinstance(document.get("tiles"), dict)


def entries(document: dict[str, Any], resolve: Callable[[str], str], where: str) -> list[Entry]:
    """The images, each once; `resolve` makes paths absolute, `where` names the document in errors.

    Cells that contradict each other on which of two images lies on top leave it to the order of first mention.

    Raises:
        SceneUnsupported: it is no MosaicJSON, whatever it claims.
    """
    prefix = document.get("asset_prefix") or ""
    above: TopologicalSorter[str] = TopologicalSorter()
    mentioned: dict[str, None] = {}
    for assets in document["tiles"].values():
        if not isinstance(assets, list) or not all(isinstance(asset, str) and asset for asset in assets):
            raise SceneUnsupported(f"{where} is no MosaicJSON that names images by path: each of `tiles` is a list.")
        mentioned.update(dict.fromkeys(assets))
        for asset in assets:
            above.add(asset)
        for upper, lower in pairwise(assets):
            above.add(lower, upper)
    try:
        order = list(above.static_order())
    except CycleError:
        order = list(mentioned)
    return [Entry(location=resolve(f"{prefix}{asset}")) for asset in order]
