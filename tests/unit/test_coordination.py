"""The way of a block from claim to finish, on a real server: who may make it, who waits, and what death changes."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from landcover.coordination import (
    ATTEMPTS_TTL_S,
    CLAIM_SCRIPT,
    DEAD_TTL_S,
    FAILURE_TTL_S,
    Begin,
    BlockDesk,
    Claim,
    read_failure,
)
from landcover.errors import BlockFailed, LandcoverError, SceneUnreadable
from landcover.grid import BlockIndex
from landcover.keys import DEAD_LETTERS, DONE_CHANNEL, BlockKey
from servers import Servers

KEY = BlockKey("scene", "v1", "sha256:" + "0" * 64, 1, BlockIndex(2, 3))
OTHER = BlockKey("scene", "v1", "sha256:" + "0" * 64, 1, BlockIndex(2, 4))
TASK = {"row": 2, "col": 3}
FIELDS = {"h": b"histogram", "c0": b"classes", "q0": b"confidence"}
LEASE_S = 0.2
LAPSE_S = LEASE_S + 0.1


def claim(
    servers: Servers, key: BlockKey = KEY, *, interest_s: float = 5, requeue_s: float = 60, queue: str = "interactive"
) -> Claim:
    """What the API does for one waiter."""
    script = servers.cache.register_script(CLAIM_SCRIPT)
    keys = [key.block, key.marker, key.lease, key.failure]
    return Claim(script(keys=keys, args=[int(interest_s * 1000), int(requeue_s * 1000), queue]).decode())


def desk(servers: Servers, worker: str = "one", lease_s: float = LEASE_S) -> BlockDesk:
    return BlockDesk(servers.cache, servers.broker, worker=worker, block_ttl_s=100, lease_s=lease_s)


def test_the_whole_way(servers: Servers) -> None:
    worker = desk(servers)
    assert claim(servers) is Claim.CLAIMED
    assert claim(servers) is Claim.PENDING
    assert worker.begin(KEY) is Begin.RUN
    assert claim(servers) is Claim.PENDING
    assert worker.renew(KEY)
    worker.finish(KEY, FIELDS)
    assert claim(servers) is Claim.READY
    assert servers.cache.hgetall(KEY.block) == {name.encode(): value for name, value in FIELDS.items()}
    assert 90 < servers.cache.ttl(KEY.block) <= 100
    assert worker.begin(KEY) is Begin.READY
    assert sorted(servers.cache.keys()) == [KEY.block.encode()]
    assert servers.broker.keys() == []


def test_blocks_do_not_touch_each_other(servers: Servers) -> None:
    assert claim(servers) is Claim.CLAIMED
    assert desk(servers).begin(OTHER) is Begin.UNWANTED
    assert claim(servers, OTHER) is Claim.CLAIMED
    desk(servers).begin(OTHER)
    desk(servers).finish(OTHER, FIELDS)
    assert claim(servers) is Claim.PENDING


def test_a_person_does_not_wait_for_a_jobs_turn(servers: Servers) -> None:
    """The interactive claim is granted beside the bulk one, once, and not the other way round."""
    assert claim(servers, queue="bulk") is Claim.CLAIMED
    assert claim(servers, queue="bulk") is Claim.PENDING
    assert claim(servers) is Claim.CLAIMED
    assert claim(servers) is Claim.PENDING
    assert claim(servers, queue="bulk") is Claim.PENDING
    assert desk(servers).begin(KEY) is Begin.RUN
    assert desk(servers, "two").begin(KEY) is Begin.TAKEN
    assert claim(servers) is Claim.PENDING


def test_a_bulk_task_that_was_lost_is_queued_anew(servers: Servers) -> None:
    assert claim(servers, queue="bulk") is Claim.CLAIMED
    time.sleep(0.05)
    assert claim(servers, queue="bulk", requeue_s=0.01) is Claim.CLAIMED


def test_of_many_waiters_one_claims(servers: Servers) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: claim(servers), range(64)))
    assert sorted(answers) == [Claim.CLAIMED] + [Claim.PENDING] * 63


def test_of_many_workers_one_runs(servers: Servers) -> None:
    claim(servers)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: desk(servers, f"worker {i}", 5).begin(KEY), range(16)))
    assert sorted(answers) == [Begin.RUN] + [Begin.TAKEN] * 15


def test_what_nobody_waits_for_is_skipped(servers: Servers) -> None:
    assert desk(servers).begin(KEY) is Begin.UNWANTED
    claim(servers, interest_s=0.05)
    time.sleep(0.1)
    assert desk(servers).begin(KEY) is Begin.UNWANTED
    assert claim(servers) is Claim.CLAIMED


def test_a_second_waiter_prolongs_the_interest_and_never_shortens_it(servers: Servers) -> None:
    claim(servers, interest_s=5)
    claim(servers, interest_s=50)
    assert 49_000 < servers.cache.pttl(KEY.marker) <= 50_000
    claim(servers, interest_s=1)
    assert servers.cache.pttl(KEY.marker) > 49_000


def test_a_running_block_stays_wanted_though_its_waiters_leave(servers: Servers) -> None:
    """Else a slow block would be finished for nobody and begun again by the next tile."""
    claim(servers, interest_s=0.05)
    worker = desk(servers)
    assert worker.begin(KEY) is Begin.RUN
    time.sleep(0.1)
    assert worker.renew(KEY)
    assert claim(servers) is Claim.PENDING


def test_a_workers_death_lets_the_next_waiter_claim(servers: Servers) -> None:
    claim(servers, interest_s=30)
    assert desk(servers, "dies").begin(KEY) is Begin.RUN
    time.sleep(LAPSE_S)
    assert claim(servers) is Claim.CLAIMED
    assert desk(servers, "heir").begin(KEY) is Begin.RUN
    assert claim(servers) is Claim.PENDING


def test_a_redelivered_task_takes_over_from_the_dead(servers: Servers) -> None:
    claim(servers, interest_s=30)
    desk(servers, "dies").begin(KEY)
    assert desk(servers, "heir").begin(KEY) is Begin.TAKEN
    time.sleep(LAPSE_S)
    assert desk(servers, "heir").begin(KEY) is Begin.RUN


def test_a_lease_that_was_lost_is_not_taken_back(servers: Servers) -> None:
    claim(servers, interest_s=30)
    slow, heir = desk(servers, "slow"), desk(servers, "heir", 30)
    slow.begin(KEY)
    time.sleep(LAPSE_S)
    assert not slow.renew(KEY)
    assert heir.begin(KEY) is Begin.RUN
    assert not slow.renew(KEY)
    assert servers.cache.get(KEY.lease) == b"heir"
    slow.finish(KEY, FIELDS)  # late but right: the same pixels, the same network
    assert claim(servers) is Claim.READY
    assert not heir.renew(KEY)


def test_renewing_keeps_the_lease_alive(servers: Servers) -> None:
    claim(servers)
    worker = desk(servers)
    worker.begin(KEY)
    for _ in range(4):
        time.sleep(LEASE_S / 2)
        assert worker.renew(KEY)
    assert claim(servers) is Claim.PENDING


def test_a_queued_task_that_was_lost_is_queued_again(servers: Servers) -> None:
    assert claim(servers, requeue_s=0.15) is Claim.CLAIMED
    assert claim(servers, requeue_s=0.15) is Claim.PENDING
    time.sleep(0.2)
    assert claim(servers, requeue_s=60) is Claim.PENDING
    assert claim(servers, requeue_s=0.15) is Claim.CLAIMED
    assert claim(servers, requeue_s=0.15) is Claim.PENDING


def test_a_running_block_is_never_queued_again_for_its_age(servers: Servers) -> None:
    claim(servers, interest_s=30)
    desk(servers, lease_s=30).begin(KEY)
    time.sleep(0.05)
    assert claim(servers, requeue_s=0.01) is Claim.PENDING


def test_a_failure_is_told_and_soon_forgotten(servers: Servers) -> None:
    claim(servers)
    worker = desk(servers)
    worker.begin(KEY)
    assert worker.count_attempt(KEY) == 1
    worker.fail(KEY, SceneUnreadable("it is truncated."))
    assert claim(servers) is Claim.FAILED
    error = read_failure(servers.cache.get(KEY.failure))
    assert type(error) is SceneUnreadable
    assert str(error) == "it is truncated."
    assert 0 < servers.cache.ttl(KEY.failure) <= FAILURE_TTL_S
    servers.cache.delete(KEY.failure)
    assert claim(servers) is Claim.CLAIMED
    assert worker.begin(KEY) is Begin.RUN
    assert worker.count_attempt(KEY) == 2
    worker.forget_attempts(KEY)
    assert worker.count_attempt(KEY) == 1


def test_success_after_a_failure_leaves_no_trace(servers: Servers) -> None:
    worker = desk(servers)
    claim(servers)
    worker.begin(KEY)
    worker.count_attempt(KEY)
    worker.fail(KEY, BlockFailed("once."))
    worker.finish(KEY, FIELDS)
    assert claim(servers) is Claim.READY
    assert servers.cache.keys() == [KEY.block.encode()]
    assert servers.broker.keys() == []


def test_attempts_outlive_the_worker_but_not_for_ever(servers: Servers) -> None:
    assert [desk(servers, name).count_attempt(KEY) for name in ("dies", "dies too", "heir")] == [1, 2, 3]
    assert 0 < servers.broker.ttl(KEY.attempts) <= ATTEMPTS_TTL_S
    assert desk(servers).count_attempt(OTHER) == 1


def test_one_attempt_is_taken_back_and_no_more(servers: Servers) -> None:
    worker = desk(servers)
    for _ in range(2):
        worker.count_attempt(KEY)
    worker.uncount_attempts([KEY, OTHER])
    assert worker.count_attempt(KEY) == 2
    assert worker.count_attempt(OTHER) == 1
    worker.uncount_attempts([OTHER])
    assert servers.broker.keys() == [KEY.attempts.encode()]


def test_without_the_broker_what_is_stored_is_stored(servers: Servers) -> None:
    """Attempts are left to lapse by themselves."""
    claim(servers)
    away = redis.Redis(port=1)
    worker = BlockDesk(servers.cache, away, worker="one", block_ttl_s=100)
    worker.begin(KEY)
    worker.finish(KEY, FIELDS)
    worker.uncount_attempts([KEY, OTHER])
    assert claim(servers) is Claim.READY


def test_a_dead_letter(servers: Servers) -> None:
    worker = desk(servers)
    claim(servers)
    worker.begin(KEY)
    worker.count_attempt(KEY)
    worker.bury(KEY, TASK, BlockFailed("three times."))
    assert claim(servers) is Claim.FAILED
    assert FAILURE_TTL_S < servers.cache.ttl(KEY.failure) <= DEAD_TTL_S
    letters = {name.decode(): json.loads(letter) for name, letter in servers.broker.hgetall(DEAD_LETTERS).items()}
    assert letters[KEY.text].pop("at") == pytest.approx(time.time(), abs=60)
    assert letters == {KEY.text: {"task": TASK, "error": "BlockFailed", "detail": "three times."}}
    servers.cache.delete(KEY.failure)  # as when it lapses
    assert claim(servers) is Claim.CLAIMED
    assert worker.count_attempt(KEY) == 1


def test_a_worker_that_lost_its_lease_does_not_fail_its_heirs_block(servers: Servers) -> None:
    claim(servers)
    late, heir = desk(servers, "late"), desk(servers, "heir")
    late.begin(KEY)
    servers.cache.delete(KEY.lease)  # as when it lapses
    heir.begin(KEY)
    late.fail(KEY, LandcoverError("too late."))
    assert claim(servers) is Claim.PENDING
    assert heir.renew(KEY)
    heir.finish(KEY, FIELDS)
    assert claim(servers) is Claim.READY


@pytest.mark.parametrize("end", ["finish", "fail", "bury"])
def test_every_end_wakes_who_waits(servers: Servers, end: str) -> None:
    """And after the wake-up the answer is there: it is published in the same transaction."""
    ends = {
        "finish": (lambda: desk(servers).finish(KEY, FIELDS), Claim.READY),
        "fail": (lambda: desk(servers).fail(KEY, LandcoverError("no.")), Claim.FAILED),
        "bury": (lambda: desk(servers).bury(KEY, TASK, LandcoverError("no.")), Claim.FAILED),
    }
    act, expected = ends[end]
    claim(servers)
    desk(servers).begin(KEY)
    with servers.cache.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe(DONE_CHANNEL)
        subscriber.get_message(timeout=1)
        threading.Timer(0.05, act).start()
        message = subscriber.get_message(timeout=2)
        assert message is not None
        assert message["data"].decode() == KEY.text
    assert claim(servers) is expected


def test_a_block_that_the_cache_evicted_is_made_again(servers: Servers) -> None:
    claim(servers)
    desk(servers).begin(KEY)
    desk(servers).finish(KEY, FIELDS)
    servers.cache.delete(KEY.block)
    assert claim(servers) is Claim.CLAIMED
    assert desk(servers).begin(KEY) is Begin.RUN


def test_scripts_survive_a_restart_of_the_server(servers: Servers) -> None:
    """A restarted server has forgotten every script: the client loads them anew."""
    worker = desk(servers)
    claim(servers)
    servers.cache.script_flush()
    assert worker.begin(KEY) is Begin.RUN
    servers.cache.script_flush()
    assert worker.renew(KEY)
    assert isinstance(servers.cache, redis.Redis)
