"""The Celery application that producer and consumer share: task name, queues, and every setting that was measured."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Annotated, Any

from celery import Celery
from kombu import Producer, Queue
from kombu.exceptions import BatchPublishError, OperationalError  # type: ignore[attr-defined]  # not in celery-types yet
from kombu.pools import producers
from pydantic import BaseModel, ConfigDict, Field

from landcover.correlation import task_headers
from landcover.grid import BlockIndex
from landcover.keys import BlockKey
from landcover.scene import SceneSource

BLOCK_TASK = "landcover.block"
INTERACTIVE_QUEUE = "interactive"
BULK_QUEUE = "bulk"
FINETUNE_TASK = "landcover.finetune"
TRAIN_QUEUE = "train"
"""For trainers alone; workers of blocks name the queues they take from, and this is none of them."""

SENT_AT = "landcover_sent_at"
"""Header of a task: when it was sent, seconds since 1970 by the sender's clock (`queue_state`)."""

HARD_LIMIT_S = 60.0
"""Default of how long one stage of a block may take in a worker before its watchdog ends the process."""

TASK_EXPIRES_S = 600
"""Age at which a queued task is dropped unread: it bounds the queue while no worker is there.

Far above `coordination.REQUEUE_AFTER_S`, since Celery sends an absolute time by the sender's clock: a worker whose
clock is ahead by more drops every task. What nobody wants any more is skipped sooner, by `BlockDesk.begin`.
"""


class BlockTask(BaseModel):
    """What a task says: which block of which scene to make, for which model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: SceneSource
    version: str
    digest: str
    decimation: Annotated[int, Field(ge=1)]
    row: Annotated[int, Field(ge=0)]
    col: Annotated[int, Field(ge=0)]

    @property
    def key(self) -> BlockKey:
        """The key under which everybody waits for the block."""
        return BlockKey(self.source.id, self.version, self.digest, self.decimation, BlockIndex(self.row, self.col))


class FinetuneTask(BaseModel):
    """What a task of the training queue says: which job to take up. All else is in its record and its folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


def make_celery(broker_url: str, *, hard_limit_s: float = HARD_LIMIT_S) -> Celery:
    """The application, not yet connected; a worker passes its own limit, since it is workers who redeliver.

    Results are ignored: what a task makes goes into the cache. `task_reject_on_worker_lost` stays off: a block
    that kills its worker would be delivered for ever; the attempt counter decides instead.
    """
    app = Celery("landcover", broker=broker_url)
    transport: dict[str, Any] = {
        "visibility_timeout": math.ceil(hard_limit_s * 3),
        "unacked_restore_interval": 10,
        "queue_order_strategy": "priority",  # interactive before bulk: no bulk task overtakes
        "socket_timeout": 10,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry_on_timeout": True,
        "max_connections": 64,
    }
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        result_backend=None,
        task_acks_late=True,
        task_acks_on_failure_or_timeout=True,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2,
        broker_transport_options=transport,
        task_queues=[Queue(INTERACTIVE_QUEUE), Queue(BULK_QUEUE), Queue(TRAIN_QUEUE)],
        task_default_queue=INTERACTIVE_QUEUE,
        task_create_missing_queues=False,
        task_publish_retry=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        enable_utc=True,
    )
    return app


def send_block(app: Celery, task: BlockTask, *, queue: str = INTERACTIVE_QUEUE) -> None:
    """Queue a block. Blocks until the broker has it: call it off the event loop.

    Raises:
        kombu.exceptions.OperationalError: the broker is away.
    """
    _send(app, task, queue)


def send_blocks(app: Celery, tasks: Sequence[BlockTask], *, queue: str) -> None:
    """Queue blocks, all in one trip to the broker.

    Raises:
        kombu.exceptions.OperationalError: the broker is away; it may have all of them, some or none.
    """
    options = {**app.conf.broker_transport_options, "retry_on_timeout": False}  # else kombu sends them one by one
    connection = app.connection_for_write(transport_options=options)
    with producers[connection].acquire(block=True) as producer:
        try:
            with producer.batch():
                for task in tasks:
                    _send(app, task, queue, producer)
        except BatchPublishError as error:
            raise OperationalError(str(error)) from error


def _send(app: Celery, task: BlockTask, queue: str, producer: Producer | None = None) -> None:
    app.send_task(
        BLOCK_TASK,
        kwargs=task.model_dump(mode="json"),
        queue=queue,
        expires=TASK_EXPIRES_S,
        headers={SENT_AT: time.time(), **task_headers()},
        retry=False,
        producer=producer,
        argsrepr="",  # for logs that nobody keeps; to write them took longer than all else
        kwargsrepr="",
    )


def send_finetune(app: Celery, task: FinetuneTask) -> None:
    """Queue a training job. It does not expire: trainers may be away for days, and the job's record decides.

    Raises:
        kombu.exceptions.OperationalError: the broker is away.
    """
    app.send_task(
        FINETUNE_TASK,
        kwargs=task.model_dump(mode="json"),
        queue=TRAIN_QUEUE,
        headers={SENT_AT: time.time()},
        retry=False,
    )
