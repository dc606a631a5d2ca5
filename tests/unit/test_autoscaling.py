"""The simulated day: nothing is lost, waiting is what queueing theory says, and rules are those of KEDA and the HPA."""

from __future__ import annotations

import heapq
import json
from pathlib import Path

import numpy as np
import pytest

from landcover.planning.autoscaling.__main__ import main
from landcover.planning.autoscaling.figures import Summary, table
from landcover.planning.autoscaling.fleet import Worker, run
from landcover.planning.autoscaling.load import Job, Load, a_day
from landcover.planning.autoscaling.policies import by_list, by_waiting, fixed
from landcover.planning.autoscaling.rules import Autoscaler, Figures, Policy, Queue, Trigger

ONE_AT_A_TIME = Worker(batch=1, run_s=0.0, window_s=1.0, threads=1)
"""A server of queueing theory: constant service, nothing taken before it can begin."""


def poisson(rate: float, count: int, seed: int = 3) -> Load:
    """Tiles of one block each."""
    times = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))
    return Load(tile_s=times, tile_blocks=np.ones(count, dtype=np.int64), jobs=(), lasts_s=0.0)


@pytest.fixture(scope="module")
def quiet_day() -> Load:
    """A tenth of the people, smaller jobs."""
    return a_day(seed=1, views_per_s=0.08, jobs=(Job(7200.0, 4000), Job(36_000.0, 1500)))


@pytest.mark.parametrize("policy", [by_list(most=5), by_waiting(most=5), by_waiting(most=5, least=1), fixed(2)])
def test_all_blocks_are_served_once_and_workers_end_before_they_are_killed(policy: Policy, quiet_day: Load) -> None:
    course = run(quiet_day, policy, Worker())
    assert course.served == {"interactive": quiet_day.interactive_blocks, "bulk": 5500}
    assert (course.wait_s > 0).all()
    assert all(seconds > 0 for seconds in course.job_s)
    assert max(course.drains_s, default=0.0) < 90, "the grace period of the chart"
    assert course.busy_s < course.worker_s
    assert all(policy.least <= pods <= policy.most for _, pods in course.pods)


def test_the_same_seed_is_the_same_day(quiet_day: Load) -> None:
    again = a_day(seed=1, views_per_s=0.08, jobs=quiet_day.jobs)
    assert np.array_equal(again.tile_s, quiet_day.tile_s)
    assert not np.array_equal(a_day(seed=2, views_per_s=0.08).tile_s, quiet_day.tile_s)


def test_a_day_has_the_views_that_were_said() -> None:
    """0.8 at the busiest moment, sin² over 16 hours: half of it on the average; eight tiles of two blocks a view."""
    load = a_day(seed=5)
    assert load.interactive_blocks == pytest.approx(0.8 * 16 * 3600 / 2 * 8 * 2, rel=0.03)
    in_the_night = (load.tile_s < 6 * 3600) | (load.tile_s > 22 * 3600)
    assert 0 < in_the_night.sum() < 200


def test_one_server_waits_as_long_as_pollaczek_and_khinchine_say() -> None:
    """M/D/1 at a load of 0.7: ρ / (2 (1 - ρ)) of a service's time in the queue, and the service itself."""
    course = run(poisson(0.7, 60_000), fixed(1), ONE_AT_A_TIME)
    assert course.wait_s.mean() == pytest.approx(0.7 / (2 * 0.3) + 1, rel=0.05)


def test_several_servers_wait_exactly_as_a_heap_of_free_servers_says() -> None:
    load = poisson(2.6, 5000)
    free = [0.0] * 3
    expected = []
    for arrival in load.tile_s:
        begun = max(arrival, heapq.heappop(free))
        heapq.heappush(free, begun + 1.0)
        expected.append(begun + 1.0 - arrival)
    assert run(load, fixed(3), ONE_AT_A_TIME).wait_s == pytest.approx(expected)


def test_people_go_first() -> None:
    """A job keeps one worker busy with batches of a second; a person's block waits for the rest of one, and its own."""
    times = np.arange(20.0, 80.0, 7.3)
    load = Load(tile_s=times, tile_blocks=np.ones(times.size, dtype=np.int64), jobs=(Job(0.0, 800),), lasts_s=0.0)
    course = run(load, fixed(1), Worker())
    assert course.wait_s.max() <= 2.0


def test_a_worker_that_is_told_to_stop_finishes_what_it_has_in_hand() -> None:
    """Blocks of 400 s; the list is empty at once, so the list's policy takes all workers away in the middle of them."""
    load = Load(tile_s=np.array([]), tile_blocks=np.array([], dtype=np.int64), jobs=(Job(0.0, 6),), lasts_s=2000.0)
    worker = Worker(batch=1, run_s=0.0, window_s=400.0, threads=4, cold_start_s=10.0)
    course = run(load, by_list(most=2), worker)
    assert course.served["bulk"] == 6
    assert max(course.drains_s) > 300, "told in the middle of a block"
    assert course.busy_s == 6 * 400, "none was begun twice"
    assert course.worker_s >= 6 * 400


def of(waiting: int = 0, in_flight: int = 0, oldest_s: float = 0.0) -> dict[Queue, Figures]:
    return {"interactive": Figures(waiting, in_flight, oldest_s), "bulk": Figures(0, 0, 0.0)}


@pytest.mark.parametrize(
    ("figure", "figures", "target", "pods", "ready", "wanted"),
    [
        ("list", of(waiting=11), 5, 1, 1, 3),
        ("list", of(in_flight=11), 5, 1, 1, 0),
        ("blocks", of(waiting=20, in_flight=30), 24, 1, 1, 3),
        ("blocks", of(waiting=50), 24, 2, 2, 2),  # 25 a pod, within a tenth of 24
        ("oldest", of(waiting=1, oldest_s=10), 4, 2, 2, 5),
        ("oldest", of(waiting=1, oldest_s=10), 4, 3, 1, 3),  # two of three still start
        ("oldest", of(waiting=1, oldest_s=10), 4, 1, 0, 0),  # then the minimum holds
    ],
)
def test_what_the_hpa_wants(
    figure: str, figures: dict[Queue, Figures], target: float, pods: int, ready: int, wanted: int
) -> None:
    trigger = Trigger(figure=figure, queues=("interactive",), target=target)  # type: ignore[arg-type]
    assert trigger.pods(trigger.value(figures), pods=pods, ready=ready) == wanted


def test_up_by_two_or_double_a_minute_and_down_by_one_in_two_after_five() -> None:
    scaler = Autoscaler(by_waiting(most=9))
    pods, course = 1, []
    for step in range(80):
        pods = scaler.sync(15.0 * step, pods, pods, of(waiting=500) if step < 20 else of())
        course.append(pods)
    assert course[:13] == [3, 3, 3, 3, 6, 6, 6, 6, 9, 9, 9, 9, 9]
    assert course[:40] == course[:13] + [9] * 27  # wanted at step 19 for the last time, 300 s before step 39
    falls = [step for step in range(1, 80) if course[step] < course[step - 1]]
    assert falls == [40, 48, 56, 64, 72]
    assert course[-1] == 4


def test_keda_takes_the_first_pod_at_once_and_the_last_after_the_cooldown() -> None:
    scaler = Autoscaler(by_waiting(most=9, cooldown_s=600))
    assert scaler.poll(5.0, 0, of()) == 0
    assert scaler.poll(10.0, 0, of(waiting=1)) == 1
    assert scaler.poll(605.0, 3, of(in_flight=1)) == 3, "work in hand keeps them"
    assert scaler.poll(1205.0, 3, of()) == 3
    assert scaler.poll(1210.0, 3, of()) == 0
    assert Autoscaler(by_waiting(most=9, least=1)).poll(9999.0, 1, of()) == 1


def test_a_job_brings_workers_only_below_twice_their_threads() -> None:
    """A job asks for no more than two blocks for each thread there is: a target above that never wants a second pod."""
    load = Load(tile_s=np.array([]), tile_blocks=np.array([], dtype=np.int64), jobs=(Job(0.0, 9000),), lasts_s=0.0)
    worker = Worker(threads=16)
    most = {
        target: max(pods for _, pods in run(load, by_waiting(most=4, blocks_per_worker=target), worker).pods)
        for target in (24.0, 64.0)
    }
    assert most == {24.0: 4, 64.0: 1}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "new" / "day.png"
    main(["--views-per-s", "0.02", "--json", "--fixed", "2", "--picture", str(picture)])
    summaries = json.loads(capsys.readouterr().out)
    assert [each["policy"] for each in summaries] == ["list length", "age and work", "always 2"]
    assert summaries[2]["worker_h"] == pytest.approx(48.0)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "| always 2 |" in table([Summary(**each) for each in summaries])
