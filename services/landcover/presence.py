"""Which workers are alive and what they run: a key each in the broker, renewed while the worker lives."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass

import redis

from landcover.keys import WORKER_PREFIX

logger = logging.getLogger(__name__)

PRESENCE_TTL_S = 15
PRESENCE_PERIOD_S = 5.0


@dataclass(frozen=True, kw_only=True)
class WorkerPresence:
    """One worker that is warm and takes tasks."""

    id: str
    provider: str
    """What runs its models: an execution provider of ONNX Runtime's, or `OpenVINO`."""
    models: tuple[str, ...]
    """Digests."""
    queues: tuple[str, ...]
    bulk_slots: int = 4
    """Blocks of the bulk queue that it has in hand at once."""


class PresenceKeeper:
    """Announces a worker and renews the announcement until `close`."""

    def __init__(self, broker: redis.Redis, presence: WorkerPresence) -> None:
        self._broker = broker
        self._key = WORKER_PREFIX + presence.id
        self._document = json.dumps(asdict(presence))
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="presence", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the announcement back."""
        self._closed.set()
        self._thread.join()
        try:
            self._broker.delete(self._key)
        except redis.RedisError as error:
            logger.warning("presence could not be taken back: %s", error)

    def _loop(self) -> None:
        while True:
            try:
                self._broker.set(self._key, self._document, ex=PRESENCE_TTL_S)
            except redis.RedisError as error:
                logger.warning("presence could not be announced: %s", error)
            if self._closed.wait(PRESENCE_PERIOD_S):
                return


def parse_presence(documents: Iterable[bytes | str | None]) -> list[WorkerPresence]:
    """The announcements found under the keys `landcover:worker:*`, by id."""
    workers = []
    for document in documents:
        if document is None:
            continue
        with suppress(ValueError, TypeError, KeyError):  # another program's key is no worker
            record = json.loads(document)
            workers.append(
                WorkerPresence(
                    id=record["id"],
                    provider=record["provider"],
                    models=tuple(record["models"]),
                    queues=tuple(record["queues"]),
                    bulk_slots=int(record.get("bulk_slots", WorkerPresence.bulk_slots)),
                )
            )
    return sorted(workers, key=lambda worker: worker.id)
