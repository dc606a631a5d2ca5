"""The three that are compared: by the length of the lists, by what people wait for, and a fleet that never changes."""

from __future__ import annotations

from landcover.planning.autoscaling.rules import QUEUES, Pace, Policy, Trigger

OLDEST_S = 4.0
BLOCKS_PER_WORKER = 24.0
POLLING_S = 5.0
COOLDOWN_S = 600.0
STABILIZATION_S = 300.0
DOWN_PERIOD_S = 120.0
SCRAPE_S = 15.0


def by_list(*, most: int, least: int = 0) -> Policy:
    """KEDA's `redis` trigger on each list, with all its defaults and those of Kubernetes."""
    return Policy(
        name="list length",
        triggers=tuple(Trigger(figure="list", queues=(queue,), target=5.0) for queue in QUEUES),
        least=least,
        most=most,
    )


def by_waiting(
    *,
    most: int,
    least: int = 0,
    oldest_s: float = OLDEST_S,
    blocks_per_worker: float = BLOCKS_PER_WORKER,
    polling_s: float = POLLING_S,
    cooldown_s: float = COOLDOWN_S,
    stabilization_s: float = STABILIZATION_S,
    down_period_s: float = DOWN_PERIOD_S,
    scrape_s: float = SCRAPE_S,
) -> Policy:
    """The age of what people wait for, and all the work there is; fast up, slow down, none when there is nothing."""
    return Policy(
        name="age and work",
        triggers=(
            Trigger(figure="oldest", queues=("interactive",), target=oldest_s),
            Trigger(figure="blocks", queues=QUEUES, target=blocks_per_worker),
        ),
        least=least,
        most=most,
        polling_s=polling_s,
        cooldown_s=cooldown_s,
        scrape_s=scrape_s,
        up=Pace(stabilization_s=0.0, pods=2, percent=100, period_s=60.0),
        down=Pace(stabilization_s=stabilization_s, pods=1, percent=None, period_s=down_period_s),
    )


def fixed(pods: int) -> Policy:
    """So many, always."""
    return Policy(name=f"always {pods}", least=pods, most=pods)
