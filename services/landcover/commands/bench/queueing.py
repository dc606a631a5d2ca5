"""Having workers make blocks as fast as they can: a queue that is never empty, and a clock beside it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from landcover.commands.bench.scale.parts import milliseconds, slope
from landcover.commands.bench.service import Service
from landcover.coordination import CLAIM_SCRIPT, REQUEUE_AFTER_S, read_failure
from landcover.errors import Unavailable
from landcover.grid import BlockIndex
from landcover.keys import DONE_CHANNEL
from landcover.queue import BULK_QUEUE, make_celery, send_blocks

_WANTED_S = 600
_SILENT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Made:
    """Blocks that workers made one after the other, none of which had to be waited for."""

    blocks: int
    blocks_per_s: float
    """Of the middle three fifths."""
    cpu_ms: dict[str, float]
    """Processor time a block, by kind of process."""


def make_blocks(service: Service, count: int) -> Made:
    """Empty the cache and have so many blocks of the scene made, or all whole ones of a scene that has fewer.

    Raises:
        LandcoverError: a block cannot be made, or the workers are silent.
    """
    service.forget()
    due = list(itertools.islice(service.subject.whole_blocks(), count))
    before = service.used_s()
    times = _times_of(service, due)
    return Made(blocks=len(due), blocks_per_s=slope(times), cpu_ms=milliseconds(before, service.used_s(), len(due)))


def map_blocks(service: Service, indices: Sequence[BlockIndex]) -> None:
    """Have these blocks made.

    Raises:
        LandcoverError: a block cannot be made, or the workers are silent.
    """
    _times_of(service, indices)


def _times_of(service: Service, indices: Sequence[BlockIndex]) -> list[float]:
    """When each block was there, by `time.perf_counter`."""
    blocks = service.subject.blocks
    keys = {blocks.key(index).text: blocks.key(index) for index in indices}
    claim = service.cache.register_script(CLAIM_SCRIPT)
    for key in keys.values():
        claim(
            keys=[key.block, key.marker, key.lease, key.failure],
            args=[_WANTED_S * 1000, REQUEUE_AFTER_S * 1000, BULK_QUEUE],
        )
    times: list[float] = []
    with service.cache.pubsub(ignore_subscribe_messages=True) as finished:  # type: ignore[no-untyped-call]
        finished.subscribe(DONE_CHANNEL)
        app = make_celery(service.env["LANDCOVER_BROKER_URL"])
        send_blocks(app, [blocks.task(index) for index in indices], queue=BULK_QUEUE)
        app.close()
        while keys:
            began = time.monotonic()
            while (message := finished.get_message(timeout=1.0)) is None:
                if time.monotonic() - began > _SILENT_S:
                    raise Unavailable(f"No worker has made a block for {_SILENT_S:.0f} s; the log above may say why.")
            text = message["data"].decode()
            if text not in keys:
                continue
            key = keys.pop(text)
            if failure := service.cache.get(key.failure):
                raise read_failure(failure)
            times.append(time.perf_counter())
    return times
