"""Dead letters and waiting tasks in an operator's hands: real servers, Celery's transport, the worker's own desk."""

from __future__ import annotations

import pytest

from landcover.connections import connect
from landcover.coordination import CLAIM_SCRIPT, Begin, BlockDesk, Claim
from landcover.dead_letters import Requeued, forget, read_dead_letters, requeue
from landcover.errors import BlockFailed, Unavailable
from landcover.keys import DEAD_LETTERS
from landcover.local import free_port
from landcover.queue import BlockTask, make_celery, send_blocks
from landcover.scene import SceneSource
from landcover.waiting_tasks import drop_waiting
from servers import Servers

FIELDS = {"h": b"histogram", "c0": b"classes", "q0": b"confidence"}


def task(col: int) -> BlockTask:
    source = SceneSource(id="a", location="/a.tif")
    return BlockTask(source=source, version="v1", digest="sha256:" + "0" * 64, decimation=2, row=3, col=col)


def url_of(servers: Servers) -> str:
    return "redis://{host}:{port}/0".format(**servers.broker.connection_pool.connection_kwargs)


def claim(servers: Servers, block: BlockTask, queue: str = "interactive", requeue_ms: int = 60_000) -> Claim:
    """What a waiter learns."""
    key = block.key
    script = servers.cache.register_script(CLAIM_SCRIPT)
    keys = [key.block, key.marker, key.lease, key.failure]
    return Claim(script(keys=keys, args=[15_000, requeue_ms, queue]).decode())


def desk(servers: Servers) -> BlockDesk:
    return BlockDesk(servers.cache, servers.broker, worker="one", block_ttl_s=100)


def bury(servers: Servers, block: BlockTask) -> None:
    """Have a worker set it aside."""
    claim(servers, block)
    worker = desk(servers)
    worker.begin(block.key)
    worker.count_attempt(block.key)
    worker.bury(block.key, block.model_dump(mode="json"), BlockFailed("failed 3 times."))
    assert claim(servers, block) is Claim.FAILED


def take(servers: Servers, queue: str) -> list[BlockTask]:
    """All tasks of a queue, as a worker gets them."""
    with make_celery(url_of(servers)).connection_for_read() as connection:
        waiting = connection.SimpleQueue(queue, no_ack=True)
        return [BlockTask.model_validate(waiting.get(timeout=5).payload[1]) for _ in range(servers.broker.llen(queue))]


def test_a_letter_says_what_and_why(servers: Servers) -> None:
    bury(servers, task(0))
    servers.broker.hset(DEAD_LETTERS, "other", '{"error": "BlockFailed", "detail": "no task"}')
    bury(servers, task(1))
    letters = read_dead_letters(servers.broker)
    assert list(letters) == [task(1).key.text, task(0).key.text, "other"]  # the newest first
    letter = letters[task(0).key.text]
    assert letter is not None and (letter.task, letter.detail) == (task(0), "failed 3 times.")
    assert letters["other"] is None


def test_a_letter_is_queued_again_and_really_made(servers: Servers) -> None:
    """Nobody asks for the block; the task comes to a worker all the same, which begins at the first attempt."""
    bury(servers, task(0))
    servers.broker.set(task(0).key.attempts, 2)
    letters = [letter for letter in read_dead_letters(servers.broker).values() if letter]
    with make_celery(url_of(servers)) as app:
        done = requeue(letters, servers.broker, servers.cache, app, queue="bulk")
    assert done == Requeued(queued=1, pending=0, ready=0)
    assert read_dead_letters(servers.broker) == {}
    assert servers.cache.ttl(task(0).key.marker) > 500  # wanted for as long as its task is good
    assert take(servers, "bulk") == [task(0)]
    worker = desk(servers)
    assert worker.begin(task(0).key) is Begin.RUN
    assert worker.count_attempt(task(0).key) == 1


def test_what_was_asked_for_or_made_meanwhile_is_not_queued_twice(servers: Servers) -> None:
    """The refusal of both has lapsed; somebody has asked for the first, and the second is ready."""
    for col in range(2):
        bury(servers, task(col))
        servers.cache.delete(task(col).key.failure)
        assert claim(servers, task(col)) is Claim.CLAIMED
    letters = [letter for letter in read_dead_letters(servers.broker).values() if letter]
    worker = desk(servers)
    worker.begin(task(1).key)
    worker.finish(task(1).key, FIELDS)
    assert list(read_dead_letters(servers.broker)) == [task(0).key.text]  # made after all: no dead letter any more
    with make_celery(url_of(servers)) as app:
        done = requeue(letters, servers.broker, servers.cache, app, queue="bulk")
    assert done == Requeued(queued=0, pending=1, ready=1)
    assert servers.broker.llen("bulk") == 0
    assert read_dead_letters(servers.broker) == {}


def test_without_a_broker_a_letter_and_its_block_are_as_before(servers: Servers) -> None:
    """Celery's broker is away; the letter stays, and whoever asks for the block has it queued."""
    bury(servers, task(0))
    letters = [letter for letter in read_dead_letters(servers.broker).values() if letter]
    with make_celery(f"redis://127.0.0.1:{free_port()}/0") as app, pytest.raises(Unavailable, match="not reachable"):
        requeue(letters, servers.broker, servers.cache, app, queue="bulk")
    assert list(read_dead_letters(servers.broker)) == [task(0).key.text]
    assert claim(servers, task(0)) is Claim.CLAIMED


def test_a_forgotten_letter_leaves_the_refusal(servers: Servers) -> None:
    bury(servers, task(0))
    assert forget([task(0).key.text, "none"], servers.broker) == 1
    assert read_dead_letters(servers.broker) == {}
    assert claim(servers, task(0)) is Claim.FAILED


def test_what_waits_is_dropped_and_asked_anew(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five in the bulk queue one was taken, and one was asked for by a person, too: only those stay as they are."""
    monkeypatch.setattr("landcover.waiting_tasks._STEP", 2)
    tasks = [task(col) for col in range(5)]
    for each in tasks:
        claim(servers, each, "bulk")
    app = make_celery(url_of(servers))
    send_blocks(app, tasks, queue="bulk")
    with app.connection_for_read() as connection:
        connection.SimpleQueue("bulk").get(timeout=5).ack()  # tasks[0]
    assert desk(servers).begin(tasks[0].key) is Begin.RUN
    assert claim(servers, tasks[1]) is Claim.CLAIMED
    send_blocks(app, [tasks[1]], queue="interactive")
    servers.broker.rpush("bulk", b"no task at all")
    assert drop_waiting("bulk", servers.broker, servers.cache) == 5
    assert servers.broker.llen("bulk") == 0
    assert take(servers, "interactive") == [tasks[1]]
    pending, claimed = [Claim.PENDING] * 2, [Claim.CLAIMED] * 3
    assert [claim(servers, each, "bulk") for each in tasks] == pending + claimed


def test_a_task_dropped_from_the_interactive_queue_is_asked_anew(servers: Servers) -> None:
    claim(servers, task(0))
    with make_celery(url_of(servers)) as app:
        send_blocks(app, [task(0)], queue="interactive")
    assert claim(servers, task(0)) is Claim.PENDING
    assert drop_waiting("interactive", connect(url_of(servers)), servers.cache) == 1
    assert claim(servers, task(0)) is Claim.CLAIMED
