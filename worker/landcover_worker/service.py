"""The worker process: loads the models, then runs Celery's consumer until it is told to stop.

Celery's `threads` pool reads windows side by side; one batching thread for each model owns the network. What a person
waits for finds a thread of its own (`intake`) and goes first at the network (`batching`).
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from celery import Celery, signals
from celery.exceptions import SecurityWarning
from celery.worker import state as worker_state
from celery.worker.strategy import default as default_strategy
from pydantic import ValidationError

from landcover.connections import connect
from landcover.coordination import BlockDesk
from landcover.presence import PresenceKeeper, WorkerPresence
from landcover.queue import BLOCK_TASK, BULK_QUEUE, BlockTask, make_celery
from landcover.settings import BrokerSettings, CacheSettings, CatalogSettings, ReadSettings
from landcover_worker import metrics
from landcover_worker.envelope import envelope_of
from landcover_worker.gpu_memory import watch_gpu_memory
from landcover_worker.intake import Intake, RoomCycle, SilenceGuard
from landcover_worker.maker import BlockMaker
from landcover_worker.networks import Networks
from landcover_worker.probes import Probes, open_probes
from landcover_worker.runtimes.onnx_gpu import CUDA
from landcover_worker.settings import WorkerSettings
from landcover_worker.supervision import BlocksInHand

logger = logging.getLogger(__name__)


class Maker(Protocol):
    """What makes blocks."""

    def make(self, task: BlockTask, *, urgent: bool) -> str:
        """`BlockMaker.make`."""


def run(settings: WorkerSettings) -> int:
    """Serve the catalogue's models until SIGTERM or SIGINT; returns the process's exit status.

    Raises:
        InvalidModel, InvalidConfiguration: there is nothing to serve with; the worker never becomes ready.
    """
    read = ReadSettings()
    probes = open_probes(settings)
    networks = Networks(CatalogSettings(), settings)
    provider = next(iter(networks.loaded.values())).provider
    if provider == CUDA:
        watch_gpu_memory()

    def make_maker(desk: BlockDesk, in_hand: BlocksInHand) -> BlockMaker:
        return BlockMaker(
            desk=desk,
            in_hand=in_hand,
            network_of=networks.loaded.get,
            read=read,
            max_attempts=settings.max_attempts,
        )

    try:
        return serve(
            settings,
            make_maker,
            probes,
            models=tuple(networks.loaded),
            provider=provider,
            slots=settings.threads or slots_for(max(each.max_batch for each in networks.loaded.values())),
        )
    finally:
        networks.close()


def slots_for(max_batch: int) -> int:
    """Blocks of a queue in hand that keep a network of such batches busy: one batch runs, the next is got ready."""
    return max(4, 2 * max_batch)


def serve(
    settings: WorkerSettings,
    make_maker: Callable[[BlockDesk, BlocksInHand], Maker],
    probes: Probes,
    *,
    models: tuple[str, ...],
    provider: str,
    slots: int,
) -> int:
    """Take tasks until SIGTERM or SIGINT; what is running is finished, what is not goes back to the queue.

    Args:
        settings: which queues, and when to give up.
        make_maker: gives what makes the blocks.
        probes: is told whether it lives and is ready.
        models: digests of the models it makes them with.
        provider: what runs those.
        slots: blocks of each queue in hand at once.
    """
    cache_settings, broker_settings = CacheSettings(), BrokerSettings()
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
    broker = connect(broker_settings.broker_url)
    desk = BlockDesk(connect(cache_settings.cache_url), broker, worker=name, block_ttl_s=cache_settings.cache_ttl_s)
    app = make_celery(broker_settings.broker_url, hard_limit_s=settings.hard_limit_s)
    intake = Intake(slots, settings.queues)
    in_hand = BlocksInHand(desk, settings.hard_limit_s)
    metrics.LAST_PROGRESS.set_function(in_hand.since_progress_s)
    probes.not_live = in_hand.stalled
    probes.not_warm = str  # empty: whoever calls this has its models loaded
    register(app, make_maker(desk, in_hand), intake)
    presence = WorkerPresence(
        id=name,
        provider=provider,
        models=models,
        queues=tuple(settings.queues),
        bulk_slots=slots if BULK_QUEUE in settings.queues else 0,
    )
    logger.info("worker %s takes tasks with %d threads on %s", name, intake.threads, provider)
    keeper = None

    @signals.worker_ready.connect(weak=False)
    def announce(**_: Any) -> None:
        nonlocal keeper
        keeper = PresenceKeeper(broker, presence)
        SilenceGuard(broker, settings.queues, intake).start()

    @signals.worker_shutting_down.connect(weak=False)
    def drain(**_: Any) -> None:
        intake.close()
        if keeper:  # in a thread: this is a signal's handler, and the broker may be slow
            threading.Thread(target=keeper.close, name="presence-end", daemon=True).start()

    # Else Celery sets the root logger's level itself.
    signals.setup_logging.connect(_leave_logging_alone)
    # Celery warns every root user of pickled messages; ours are JSON only, and images run as another user.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    consumer = app.Worker(
        hostname=f"landcover@{name}",
        pool="threads",
        concurrency=intake.threads,
        queues=list(settings.queues),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    probes.not_ready = partial(not_taking_tasks, consumer)
    try:
        consumer.start()
    finally:
        if keeper:
            keeper.close()
    return int(consumer.exitcode or 0)


def _leave_logging_alone(**_: Any) -> None:
    """`landcover.logs` has set it up."""


def not_taking_tasks(worker: Any) -> str:
    """Why Celery's `worker` takes no tasks; empty if it does."""
    if worker_state.should_stop is not None or worker_state.should_terminate is not None:
        return "it is being stopped, and finishes what it has in hand"
    if worker.consumer is None or worker.consumer.connection is None:
        return "the consumer is not connected to the broker"
    return ""


def careful_strategy(intake: Intake, task: Any, app: Celery, consumer: Any, **options: Any) -> Callable[..., None]:
    """Celery's way of taking a message up, but it is counted, and one that cannot be read is dropped.

    By default its error ends the worker, which puts the message back for the next worker to die of.
    """
    take_up = default_strategy(task, app, consumer, **options)

    def take_up_or_drop(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **more: Any) -> None:
        end = intake.take(message.delivery_info.get("routing_key", ""), message.channel)
        try:
            take_up(message, body, _after(end, ack), _after(end, reject), callbacks, **more)
        except consumer.connection_errors:
            raise
        except Exception:
            logger.exception("dropped a message that is no task")
            message.ack_log_error(logger, consumer.connection_errors)
            end()

    return take_up_or_drop


def _after(end: Callable[[], None], answer: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's `ack` or `reject`, one of which ends every message."""

    def answer_and_end(*arguments: Any, **options: Any) -> Any:
        try:
            return answer(*arguments, **options)
        finally:
            end()

    return answer_and_end


def register(app: Celery, maker: Maker, intake: Intake) -> None:
    """Give `app` the block task, and have it take no more than `intake` has room for."""
    app.conf.broker_transport_options["queue_order_strategy"] = partial(RoomCycle, intake)

    @app.task(name=BLOCK_TASK, bind=True, ignore_result=True, Strategy=partial(careful_strategy, intake))
    def make_block(self: Any, /, **message: Any) -> None:
        try:
            task = BlockTask.model_validate(message)
        except ValidationError as error:
            faults = {".".join(map(str, fault["loc"])) for fault in error.errors(include_input=False)}
            logger.error(
                "dropped a task that is none; wrong: %s", ", ".join(sorted(faults))
            )  # a location may be signed
            return
        envelope = envelope_of(self.request)
        with envelope.working_on(task) as span:
            span.set("landcover.outcome", maker.make(task, urgent=envelope.urgent))
