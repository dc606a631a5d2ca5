"""The worker process: loads the models, then runs Celery's consumer until it is told to stop.

Celery's `threads` pool reads windows side by side; one batching thread for each model owns the network.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import warnings
from collections.abc import Callable
from typing import Any

from celery import Celery, signals
from celery.exceptions import SecurityWarning
from celery.worker.strategy import default as default_strategy
from prometheus_client import start_http_server
from pydantic import ValidationError

from landcover.connections import connect
from landcover.coordination import BlockDesk
from landcover.presence import PresenceKeeper, WorkerPresence
from landcover.queue import BLOCK_TASK, BlockTask, make_celery
from landcover.settings import BrokerSettings, CacheSettings, CatalogSettings, ReadSettings
from landcover_worker.intake import Intake, SilenceGuard
from landcover_worker.maker import BlockMaker
from landcover_worker.networks import Networks
from landcover_worker.settings import WorkerSettings
from landcover_worker.supervision import BlocksInHand

logger = logging.getLogger(__name__)


def run(settings: WorkerSettings) -> int:
    """Serve until SIGTERM or SIGINT; what is running is finished, what is not goes back to the queue.

    Returns the process's exit status.

    Raises:
        InvalidModel, InvalidConfiguration: there is nothing to serve with; the worker never becomes ready.
    """
    cache_settings, broker_settings, read = CacheSettings(), BrokerSettings(), ReadSettings()
    networks = Networks(CatalogSettings(), settings)
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
    broker = connect(broker_settings.broker_url)
    desk = BlockDesk(connect(cache_settings.cache_url), broker, worker=name, block_ttl_s=cache_settings.cache_ttl_s)
    maker = BlockMaker(
        desk=desk,
        in_hand=BlocksInHand(desk, settings.hard_limit_s),
        network_of=networks.loaded.get,
        read=read,
        max_attempts=settings.max_attempts,
    )
    app = make_celery(broker_settings.broker_url, hard_limit_s=settings.hard_limit_s)
    threads = settings.threads or max(4, 2 * max(each.max_batch for each in networks.loaded.values()))
    intake = Intake(threads)
    register(app, maker, intake)
    first = next(iter(networks.loaded.values()))
    presence = WorkerPresence(
        id=name, provider=first.provider, models=tuple(networks.loaded), queues=tuple(settings.queues)
    )
    if settings.metrics_port:
        start_http_server(settings.metrics_port)
    logger.info("worker %s takes tasks with %d threads on %s", name, threads, first.provider)
    keeper = None

    @signals.worker_ready.connect(weak=False)
    def announce(**_: Any) -> None:
        nonlocal keeper
        keeper = PresenceKeeper(broker, presence)
        SilenceGuard(broker, settings.queues, intake).start()

    # Celery warns every root user of pickled messages; ours are JSON only, and images run as another user.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    consumer = app.Worker(
        hostname=f"landcover@{name}",
        pool="threads",
        concurrency=threads,
        queues=list(settings.queues),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    try:
        consumer.start()
    finally:
        if keeper:
            keeper.close()
        networks.close()
    return int(consumer.exitcode or 0)


def careful_strategy(task: Any, app: Celery, consumer: Any, **options: Any) -> Callable[..., None]:
    """Celery's way of taking a message up, but one that it cannot read is dropped.

    By default its error ends the worker, which puts the message back for the next worker to die of.
    """
    take_up = default_strategy(task, app, consumer, **options)

    def take_up_or_drop(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **more: Any) -> None:
        try:
            take_up(message, body, ack, reject, callbacks, **more)
        except consumer.connection_errors:
            raise
        except Exception:
            logger.exception("dropped a message that is no task")
            message.ack_log_error(logger, consumer.connection_errors)

    return take_up_or_drop


def register(app: Celery, maker: BlockMaker, intake: Intake) -> None:
    """Give `app` the block task."""

    @app.task(name=BLOCK_TASK, ignore_result=True, Strategy="landcover_worker.service:careful_strategy")
    def make_block(**message: Any) -> None:
        try:
            task = BlockTask.model_validate(message)
        except ValidationError as error:
            faults = {".".join(map(str, fault["loc"])) for fault in error.errors(include_input=False)}
            logger.error(
                "dropped a task that is none; wrong: %s", ", ".join(sorted(faults))
            )  # a location may be signed
            return
        with intake.task():
            maker.make(task)
