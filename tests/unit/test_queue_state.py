"""Depth, age and what is in flight, of a real broker in which Celery's own transport put and took tasks."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import redis

from landcover import queue_state
from landcover.connections import connect, connect_async
from landcover.keys import DEAD_LETTERS, WORKER_PREFIX
from landcover.local import free_port
from landcover.queue import BlockTask, FinetuneTask, make_celery, send_block, send_blocks, send_finetune
from landcover.queue_state import QueueState, read_queues, read_queues_async
from landcover.scene import SceneSource
from servers import Servers

NOTHING = QueueState(waiting=0, in_flight=0, oldest_s=0.0)


def task(col: int) -> BlockTask:
    source = SceneSource(id="a", location="/a.tif")
    return BlockTask(source=source, version="v1", digest="sha256:" + "0" * 64, decimation=2, row=3, col=col)


def url_of(servers: Servers) -> str:
    return "redis://{host}:{port}/0".format(**servers.broker.connection_pool.connection_kwargs)


def test_empty_queues(servers: Servers) -> None:
    found = read_queues(servers.broker)
    assert dict(found.queues) == {"interactive": NOTHING, "bulk": NOTHING, "train": NOTHING}
    assert (found.dead_letters, found.workers) == (0, 0)


async def test_what_waits_and_what_is_taken(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five are sent at 1000 s and at 1050 s, two are taken: the third is the next, and 70 s old at 1070 s."""
    app = make_celery(url_of(servers))
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    send_blocks(app, [task(col) for col in range(3)], queue="interactive")
    now = 1050.0
    send_block(app, task(3))
    send_block(app, task(4), queue="bulk")
    send_finetune(app, FinetuneTask(job="0" * 12))
    servers.broker.hset(DEAD_LETTERS, "block", "{}")
    for number in range(3):
        servers.broker.set(f"{WORKER_PREFIX}{number}", "{}")
    now = 1070.0
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("interactive")
        messages = [queue.get(timeout=5) for _ in range(2)]
        found = read_queues(servers.broker)
        client = connect_async(url_of(servers))
        assert await read_queues_async(client) == found
        await client.aclose()
        for message in messages:
            message.ack()
        ended = read_queues(servers.broker)
    assert asdict(found) == {
        "queues": {
            "interactive": {"waiting": 2, "in_flight": 2, "oldest_s": 70.0},
            "bulk": {"waiting": 1, "in_flight": 0, "oldest_s": 20.0},
            "train": {"waiting": 1, "in_flight": 0, "oldest_s": 20.0},
        },
        "dead_letters": 1,
        "workers": 3,
    }
    assert ended.queues["interactive"].in_flight == 0


def test_of_very_many_in_flight_a_sample_tells(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """55 of 60 in flight are of one queue, so 25 or more of a sample of 30."""
    monkeypatch.setattr(queue_state, "_SAMPLE", 30)
    app = make_celery(url_of(servers))
    with app.connection_for_read() as connection:
        for name, count in (("bulk", 55), ("interactive", 5)):
            send_blocks(app, [task(col) for col in range(count)], queue=name)
            queue = connection.SimpleQueue(name)
            for _ in range(count):
                queue.get(timeout=5)
        found = read_queues(servers.broker).queues
    assert found["bulk"].in_flight + found["interactive"].in_flight == pytest.approx(60, abs=1)
    assert found["bulk"].in_flight >= 50


def test_without_a_broker() -> None:
    with pytest.raises(redis.RedisError):
        read_queues(connect(f"redis://127.0.0.1:{free_port()}/0"))


@pytest.mark.parametrize(
    "rubbish", [b"x", b"[]", b"{}", b'{"headers": 3}', b'{"headers": {"landcover_sent_at": "now"}}']
)
def test_what_somebody_else_wrote_is_counted_and_has_no_age(servers: Servers, rubbish: bytes) -> None:
    servers.broker.rpush("interactive", rubbish)
    servers.broker.hset("unacked", "tag", rubbish)  # type: ignore[arg-type]
    assert read_queues(servers.broker).queues["interactive"] == QueueState(waiting=1, in_flight=0, oldest_s=0.0)
