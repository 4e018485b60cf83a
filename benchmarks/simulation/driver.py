"""Runs a policy in a world, day by day, and compares what happened with what was to be expected."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.simulation.behaviour import MEASURES, Outcome
from benchmarks.simulation.draws import Floats, Integers, Stream, stream
from benchmarks.simulation.lists import Shown, certain
from benchmarks.simulation.memory import Memory
from benchmarks.simulation.policies import KnownPolicy, Policy, shown_items
from benchmarks.simulation.world import Requests, World

Listener = Callable[[Requests, Shown, Outcome], None]


@dataclass(frozen=True, eq=False)
class Run:
    """V visits under one policy.

    Attributes:
        day, language: [V].
        shown: [V], items of the list.
        observed: [V, 5], sums of `MEASURES` over the list, as drawn.
        expected: [V, 5], their exact expectations over the policy's and the person's draws, in the state that the
            visit met; NaN: not computed.
        best: [V], expected clicks of the best list in the same state; NaN: not computed.
        targets: Policy -> [V, 5], what it would have been worth in the same states.
    """

    day: Integers
    language: Integers
    shown: Integers
    observed: Floats
    expected: Floats
    best: Floats
    targets: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.day)


@dataclass(frozen=True)
class Figures:
    """Figures of visits.

    Attributes:
        visits: Their number.
        ctr: Clicks / items shown.
        purchases: A visit.
        satisfaction: Mean of the clicks.
        satisfied: Sum of the satisfactions of clicks, a visit.
    """

    visits: int
    ctr: float
    purchases: float
    satisfaction: float
    satisfied: float


def run(
    world: World,
    policy: Policy,
    days: Iterable[int],
    *,
    part: int = 0,
    memory: Memory | None = None,
    listeners: Sequence[Listener] = (),
    targets: Sequence[KnownPolicy] = (),
    exact: bool = True,
) -> Run:
    """Answers all visits of some days with a policy, which hears what people do with its lists.

    Expectations are conditional on what has been seen before, in this run. Observed minus expected is a martingale
    difference: its mean over visits has expectation 0, whatever the policy learns from.

    Args:
        world: The world.
        policy: Learns on the way, if it does.
        days: In their order.
        part: Of the world's luck: other parts draw other outcomes for the same visits.
        memory: What people have seen before; None: nothing.
        listeners: Hear each round before the policy does: other policies' `heard`, a log.
        targets: Policies whose value in the states that the visits meet is computed. They hear nothing.
        exact: Whether expectations and best lists are computed; without, it is several times faster.
    """
    memory = world.memory() if memory is None else memory
    rows: list[dict[str, npt.NDArray[Any]]] = []
    values: dict[str, list[Floats]] = {each.name: [] for each in targets}
    for day in days:
        choices, luck = stream(world.seed, Stream.RUN, (part << 32) + day).spawn(2)
        policy.begin(day)
        for round_ in world.visits(day).rounds():
            requests = _with_memory(round_, memory)
            if exact and isinstance(policy, KnownPolicy):
                distribution = policy.distribution(requests)
                shown = distribution.draw(choices)
                expected = world.value(requests, distribution).sum(axis=2).T
            else:
                shown = policy.show(requests, choices)
                expected = (
                    world.value(requests, certain(shown.lists)).sum(axis=2).T
                    if exact
                    else np.full((len(requests), len(MEASURES)), np.nan)
                )
            best = np.full(len(requests), np.nan)
            if exact:
                lists = world.best(requests, shown.lists.shape[1])
                best = world.expected(requests, lists)[0].sum(axis=1)
            for target in targets:
                values[target.name].append(world.value(requests, target.distribution(requests)).sum(axis=2).T)
            outcome = world.respond(requests, shown.lists, luck)
            # While the requests' memory is still that of the decision: a listener may ask what was to be expected.
            for listener in listeners:
                listener(requests, shown, outcome)
            policy.heard(requests, shown, outcome)
            world.remember(requests, shown.lists, outcome.clicked)
            rows.append(
                {
                    "day": np.full(len(requests), day),
                    "language": requests.language,
                    "shown": shown_items(shown.lists),
                    "observed": _observed(world, shown, outcome),
                    "expected": expected,
                    "best": best,
                }
            )
    if not rows:
        raise ValueError("no visits on these days")
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return Run(**columns, targets={name: np.concatenate(each) for name, each in values.items()})


def figures(run: Run, values: Floats, language: int | None = None, day: int | None = None) -> Figures:
    """Figures of a run's visits.

    Args:
        run: The run.
        values: [V, 5]: its ``observed``, its ``expected`` or those of a target.
        language, day: Of the visits; None: all.
    """
    which = np.ones(len(run), bool) if language is None else run.language == language
    if day is not None:
        which = which & (run.day == day)
    clicks, purchases, satisfied = values[which, :3].sum(axis=0)
    count = int(which.sum())
    if not count:
        return Figures(0, np.nan, np.nan, np.nan, np.nan)
    return Figures(
        visits=count,
        ctr=float(clicks / run.shown[which].sum()),
        purchases=float(purchases / count),
        satisfaction=float(satisfied / clicks) if clicks else np.nan,
        satisfied=float(satisfied / count),
    )


def best_ctr(run: Run, language: int | None = None) -> float:
    """Expected CTR of the best lists in the states that the run's visits met."""
    which = np.ones(len(run), bool) if language is None else run.language == language
    return float(run.best[which].sum() / run.shown[which].sum()) if which.any() else np.nan


def standard_errors(runs: Sequence[Run]) -> float:
    """Distance of observed clicks from expected ones, in standard errors: sum d / sqrt(sum d^2) over all visits.

    The differences d of a run are uncorrelated, because each has the expectation 0 given all before it.
    """
    differences = np.concatenate([(each.observed - each.expected)[:, 0] for each in runs])
    return float(differences.sum() / np.sqrt((differences**2).sum()))


def _with_memory(requests: Requests, memory: Memory) -> Requests:
    return Requests(requests.day, requests.ids, requests.people, requests.timestamps, requests.language, memory)


def _observed(world: World, shown: Shown, outcome: Outcome) -> Floats:
    prices = np.nan_to_num(world.items.price[shown.lists])
    parts = (outcome.clicked, outcome.purchased, outcome.satisfaction, outcome.dwell, outcome.purchased * prices)
    return np.stack([part.sum(axis=1, dtype=np.float64) for part in parts], axis=1)
