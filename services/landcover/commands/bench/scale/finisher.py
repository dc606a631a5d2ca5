"""A process that finishes blocks as fast as it can, for the books alone: no threads, no Celery, no network.

    python -m landcover.commands.bench.scale.finisher --block-px 64

It takes messages off the bulk queue itself, many at a time, and begins and finishes their blocks by the scripts that
workers use, many in one trip. So what is measured is not the workers, of which there would have to be a hundred.
"""

from __future__ import annotations

import argparse
import base64
import json
import time
from collections.abc import Sequence

import numpy as np
import redis

from landcover import block
from landcover.connections import connect
from landcover.coordination import BEGIN_SCRIPT, LEASE_S
from landcover.keys import DONE_CHANNEL, BlockKey
from landcover.queue import BULK_QUEUE, BlockTask
from landcover.settings import BrokerSettings, CacheSettings

AT_ONCE = 64
BLOCK_TTL_S = 24 * 3600


def made_up_fields(block_px: int, blobs: int) -> dict[str, bytes]:
    """A block of patches: the more `blobs`, the less it can be compressed."""
    noise = np.random.default_rng(0)
    cells = max(1, round(blobs**0.5))
    coarse = noise.integers(1, 9, (cells, cells), dtype=np.uint8)
    at = np.arange(block_px) * cells // block_px
    classes = coarse[np.ix_(at, at)]
    confidence = np.clip(classes * 20 + noise.integers(0, 32, classes.shape), 0, 255).astype(np.uint8)
    return block.encode(classes, confidence, 8)


def finish(cache: redis.Redis, keys: Sequence[BlockKey], fields: dict[str, bytes]) -> int:
    """Begin each block and, where that is granted, finish it; returns how many were."""
    begin = cache.register_script(BEGIN_SCRIPT)
    with cache.pipeline(transaction=False) as pipe:
        for key in keys:
            begin(keys=[key.block, key.marker, key.lease], args=["finisher", int(LEASE_S * 1000)], client=pipe)
        granted = [key for key, answer in zip(keys, pipe.execute(), strict=True) if answer == b"run"]
        items = [part for pair in fields.items() for part in pair]
        for key in granted:
            pipe.hset(key.block, items=items)
            pipe.expire(key.block, BLOCK_TTL_S)
            pipe.delete(key.marker, key.lease, key.failure)
            pipe.publish(DONE_CHANNEL, key.text)
        pipe.execute()
    return len(granted)


def key_of(message: bytes | str) -> BlockKey:
    """Whose block a message of Celery's asks for."""
    envelope = json.loads(message)
    _, arguments, _ = json.loads(base64.b64decode(envelope["body"]))
    return BlockTask.model_validate(arguments).key


def main() -> None:
    """Run from the command line, until told to stop."""
    parser = argparse.ArgumentParser(description="Finish blocks of a bulk queue without making them.")
    parser.add_argument("--block-px", type=int, required=True)
    parser.add_argument("--blobs", type=int, default=1)
    arguments = parser.parse_args()
    broker, cache = connect(BrokerSettings().broker_url), connect(CacheSettings().cache_url)
    fields = made_up_fields(arguments.block_px, arguments.blobs)
    while True:
        messages = broker.rpop(BULK_QUEUE, AT_ONCE)
        if isinstance(messages, list) and messages:
            finish(cache, [key_of(message) for message in messages], fields)
        else:
            time.sleep(0.005)


if __name__ == "__main__":
    main()
