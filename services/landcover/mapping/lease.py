"""Keeping a map job ours while it is done, and telling how far it is."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import redis

from landcover.jobs import JobDesk
from landcover.mapping.run import Progress

logger = logging.getLogger(__name__)

LEASE_S = 15.0
RENEW_S = 0.5
"""How often the lease is prolonged, progress told, and a dismissal noticed."""

AWAY_S = 1.0
SHOWN_FAILURES = 50


class Lease:
    """Keeps a job ours, by a thread of its own: files can take long to write without a word."""

    def __init__(self, desk: JobDesk, job: str, holder: str) -> None:
        self._desk = desk
        self._job = job
        self._holder = holder
        self._progress = Progress()
        self._forgiven = False
        self._closed = threading.Event()
        self.lost = False
        """Whether the job was dismissed, or is another's now."""
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def tells(self, progress: Progress) -> None:
        """Tell of this from now on."""
        self._progress = progress

    def end(self, end: Callable[[], Any]) -> bool:
        """Tell how far it is for the last time, then `end`; as often as it takes until the broker answers.

        False if the job was lost before, and nothing was ended.
        """
        while not self.lost:
            try:
                self._renew()
                if not self.lost:
                    end()
                    return True
            except redis.RedisError as error:
                logger.warning("job %s cannot be ended now: %s", self._job, error)
                time.sleep(AWAY_S)
        return False

    def release(self, message: str) -> None:
        """Give the job back to others."""
        self._close()
        try:
            self._desk.release(self._job, self._holder, message, blameless=True)
        except redis.RedisError as error:
            logger.warning("job %s cannot be given back: %s", self._job, error)

    def _close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        while not self._closed.wait(RENEW_S):
            try:
                self._renew()
            except redis.RedisError as error:
                logger.warning("job %s: its lease cannot be prolonged now: %s", self._job, error)

    def _renew(self) -> None:
        progress = self._progress
        detail = {
            "total": progress.total,
            "done": progress.done,
            "found": progress.found,
            "failed": len(progress.failures),
            "eta_s": progress.eta_s,
            "failures": [
                {"row": index.row, "col": index.col, "reason": reason}
                for index, reason in list(progress.failures.items())[:SHOWN_FAILURES]
            ],
        }
        kept = self._desk.renew(
            self._job,
            self._holder,
            lease_s=LEASE_S,
            progress=progress.percent,
            message=progress.message,
            detail=json.dumps(detail),
        )
        if not kept:
            self.lost = True
            self._closed.set()
        elif progress.done > progress.found and not self._forgiven:
            self._desk.forgive(self._job, self._holder)
            self._forgiven = True
