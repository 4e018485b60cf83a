"""What a roll-out decides about updates whose effect is known, and what a bad one costs until then.

The decisions are those of `serving.service.rollout`, on sums that are drawn here: no service and no model server.
People come by a Lomax distribution of their activity, as in `benchmarks.simulation`, and some of them come for the
first time on each day; they like the items to a degree of their own. Clicks are binomial over the items of an answer,
purchases and judgements binomial over the clicks. Everything is looked at every `STEP` answers.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from rich.console import Console

from benchmarks.harness.runner import Options, Page, Result, progress, run
from benchmarks.harness.table import Bar, Table, at_least, at_most
from serving.arguments import argument
from serving.service.rollout.deciding import Action, Decision, Observed, decide
from serving.service.rollout.sequential import Arms
from serving.service.rollout.settings import RolloutSettings

STEP: Final = 500
_DAYS: Final = 14
_ITEMS: Final = 10


@dataclass(frozen=True, kw_only=True)
class Update:
    """An update, by what it does.

    Attributes:
        clicks, purchases, satisfaction: Relative lift of the click probability, of purchases and of the satisfaction
            after a click.
        hurt: Share of the people for whom it is as bad as ``hurt_clicks`` says, such as those of one language.
        hurt_clicks: Their lift of the click probability.
        fails: Share of the canary's answers that it does not give, so that the stable version does.
    """

    clicks: float = 0.0
    purchases: float = 0.0
    satisfaction: float = 0.0
    hurt: float = 0.0
    hurt_clicks: float = -0.9
    fails: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Who comes, and what they do with the stable version.

    Attributes:
        people: Number of people.
        answers: Most answers; a trial ends earlier by its settings.
        ctr: Mean probability of a click on an item.
        variety: Coefficient of variation of the click probability between people; 0.29 to 0.75 in
            `benchmarks.simulation`, by policy.
        activity_shape: Of the Lomax distribution of people's activity.
        arriving: Share of the people who are not there yet when the trial begins.
        purchase, judgement, satisfaction: Probabilities after a click.
    """

    people: int = 20_000
    answers: int = 200_000
    ctr: float = 0.05
    variety: float = 0.5
    activity_shape: float = 2.5
    arriving: float = 0.3
    purchase: float = 0.2
    judgement: float = 0.3
    satisfaction: float = 0.65


VERDICTS: Final = ("better", "no worse", "worse", "undecided")
"""Promoted since its CTR is better, or since it is not worse by the margin when the trial ends; rolled back since a
measure is worse or it fails, or since neither was shown."""
UPDATES: Final = {
    "equal": Update(),
    "3 % better": Update(clicks=0.03),
    "10 % better": Update(clicks=0.1),
    "5 % worse": Update(clicks=-0.05),
    "10 % worse": Update(clicks=-0.1),
    "20 % worse (items doubled)": Update(clicks=-0.2),
    "50 % worse": Update(clicks=-0.5),
    "80 % worse (labels shuffled)": Update(clicks=-0.8),
    "a language of 15 % dropped": Update(hurt=0.15),
    "clickbait: clicks +5 %, satisfaction -20 %": Update(clicks=0.05, satisfaction=-0.2),
    "purchases -30 %": Update(purchases=-0.3),
    "no answer in 20 %": Update(fails=0.2),
}
"""Updates that are tried."""
_BAD: Final = tuple(UPDATES.values())[4:]


@dataclass(frozen=True)
class Trial:
    """How a trial ended.

    Attributes:
        verdict: One of `VERDICTS`.
        answers: Until then, in both arms.
        lost: Expected clicks that the canary cost, as a share of those that the stable version alone would have had
            in the same answers; negative: it brought more.
    """

    verdict: str
    answers: int
    lost: float


def trial(update: Update, traffic: Traffic, settings: RolloutSettings, seed: int) -> Trial:
    """One roll-out from its first answer to its decision."""
    random = np.random.default_rng(seed)
    world = _World(update, traffic, settings, random)
    stage = 0
    for answers in range(STEP, traffic.answers + 1, STEP):
        world.go_on(stage)
        decision = decide(world.observed(), stage, 0.0, settings)
        if decision.action is Action.GROW:
            stage += 1
        elif decision.action is not Action.WAIT:
            return Trial(_verdict(decision), answers, world.lost)
    return Trial("undecided", traffic.answers, world.lost)


def _verdict(decision: Decision) -> str:
    figures = decision.figures
    if decision.action is Action.PROMOTE:
        return "better" if figures["ctr"].low > 0.0 else "no worse"
    return "worse" if decision.failures or any(each.high < 0.0 for each in figures.values()) else "undecided"


class _World:
    """Sums of what people did: [stage, person]; a person is in one arm of a stage."""

    def __init__(
        self, update: Update, traffic: Traffic, settings: RolloutSettings, random: np.random.Generator
    ) -> None:
        count, shape = traffic.people, 1.0 / traffic.variety**2
        self._update, self._traffic, self._random = update, traffic, random
        self._shares = settings.shares
        self._activity = random.pareto(traffic.activity_shape, count)
        self._attraction = np.minimum(traffic.ctr * random.gamma(shape, 1.0 / shape, count), 0.9)
        self._place = random.random(count)  # in [0, 1), as `assignment` gives one
        self._hurt = random.random(count) < update.hurt
        self._arrives = np.where(random.random(count) < traffic.arriving, random.random(count), 0.0)
        self._sums = np.zeros((5, len(settings.shares), count))
        self._answers = self._canary_answers = self._failures = 0
        self._lost_clicks = self._clicks = 0.0

    def go_on(self, stage: int) -> None:
        """`STEP` more answers."""
        update, traffic, random = self._update, self._traffic, self._random
        time = self._answers / traffic.answers
        there = np.flatnonzero(self._arrives <= np.floor(time * _DAYS) / _DAYS)
        activity = self._activity[there]
        person = there[random.choice(len(there), STEP, p=activity / activity.sum())]
        assigned = self._place[person] < self._shares[stage]
        fails = assigned & (random.random(STEP) < update.fails)
        canary = assigned & ~fails
        stable = self._attraction[person]
        lift = np.where(self._hurt[person], update.hurt_clicks, update.clicks)
        attraction = stable * np.where(canary, 1.0 + lift, 1.0)
        clicks = random.binomial(_ITEMS, attraction)
        bought = random.binomial(clicks, traffic.purchase * np.where(canary, 1.0 + update.purchases, 1.0))
        judged = random.binomial(clicks, traffic.judgement)
        pleased = traffic.satisfaction * np.where(canary, 1.0 + update.satisfaction, 1.0)
        satisfied = random.binomial(4 * judged, pleased) / 4.0
        for place, values in enumerate((np.ones(STEP), clicks, bought, judged, satisfied)):
            np.add.at(self._sums[place, stage], person, values)
        self._answers += STEP
        self._canary_answers += int(assigned.sum())
        self._failures += int(fails.sum())
        self._lost_clicks += float((stable - attraction).sum())
        self._clicks += float(stable.sum())

    @property
    def lost(self) -> float:
        """Share of the expected clicks."""
        return self._lost_clicks / self._clicks

    def observed(self) -> Observed:
        """As a service would see it."""
        stage, person = np.nonzero(self._sums[0])
        answers, clicks, bought, judged, satisfied = self._sums[:, stage, person]
        is_canary = self._place[person] < np.array(self._shares)[stage]
        return Observed(
            arms=Arms(person, stage, is_canary),
            sums={
                "ctr": (clicks, _ITEMS * answers),
                "purchases": (bought, answers),
                "satisfaction": (satisfied, judged),
            },
            answers=self._answers,
            canary_answers=self._canary_answers,
            failures=self._failures,
        )


@dataclass(frozen=True)
class _Options(Options):
    repetitions: int = argument("--repetitions", type=int, default=20, help="of each update (default: %(default)s)")
    equal: int = argument("--equal", type=int, default=200, help="of the equal one (default: %(default)s)")
    seed: int = argument("--seed", type=int, default=0, help="default: %(default)s")
    people: int = argument("--people", type=int, default=20_000, help="default: %(default)s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run("loop.rollout_power", __doc__, _Options, _run, _page, arguments, packages=("numpy",))


def figures(
    traffic: Traffic, settings: RolloutSettings, repetitions: int, equal: int, seed: int, console: Console
) -> dict[str, dict[str, Any]]:
    """Figures of `UPDATES` by name."""
    found: dict[str, dict[str, Any]] = {}
    counts = {name: equal if update == Update() else repetitions for name, update in UPDATES.items()}
    with progress(console) as bar:
        task = bar.add_task("trials", total=sum(counts.values()))
        for place, (name, update) in enumerate(UPDATES.items()):
            trials = []
            for number in range(counts[name]):
                trials.append(trial(update, traffic, settings, _seed(seed, place, number)))
                bar.advance(task)
            found[name] = _figures(trials)
    return found


def _seed(seed: int, update: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, update, number)).generate_state(1, np.uint64)[0])


def _figures(trials: Sequence[Trial]) -> dict[str, Any]:
    return {
        "trials": len(trials),
        **{verdict: sum(each.verdict == verdict for each in trials) for verdict in VERDICTS},
        "answers": float(np.median([each.answers for each in trials])),
        "most answers": max(each.answers for each in trials),
        "lost": float(np.median([each.lost for each in trials])),
        "most lost": max(each.lost for each in trials),
    }


def _run(options: _Options, console: Console) -> Result:
    traffic = replace(Traffic(), people=options.people)
    found = figures(traffic, RolloutSettings(), options.repetitions, options.equal, options.seed, console)
    return {"people": options.people, "updates": found, "bars": bars(found)}


def bars(found: dict[str, dict[str, Any]]) -> list[Bar]:
    """The bars of the issue."""
    good, equal = found["3 % better"], found["equal"]
    bad = [each for name, each in found.items() if UPDATES[name] in _BAD]
    rolled_back = sum(each["worse"] + each["undecided"] for each in bad) / sum(each["trials"] for each in bad)
    wrong = (equal["better"] + equal["worse"]) / equal["trials"]
    promoted = (good["better"] + good["no worse"]) / good["trials"]
    return [
        at_least("a good update (3 %) is promoted", promoted, 0.8),
        at_most("answers until then, at most", good["most answers"], 200_000),
        at_most("clicks lost to a bad update, at most", max(each["most lost"] for each in bad), 0.05),
        at_least("a bad update (10 % and more) is rolled back", rolled_back, 1.0),
        at_most("an equal update is called better or worse", wrong, 0.05),
    ]


def _page(result: Result) -> Page:
    columns = ("update", *VERDICTS, "answers", "at most", "clicks lost", "at most")
    rows = [
        [
            name,
            *(f"{each[verdict]} of {each['trials']}" for verdict in VERDICTS),
            f"{each['answers']:,.0f}",
            f"{each['most answers']:,}",
            f"{each['lost']:.2%}",
            f"{each['most lost']:.2%}",
        ]
        for name, each in result["updates"].items()
    ]
    return [Table(f"Decisions, {result['people']:,} people", columns, rows)]


if __name__ == "__main__":
    sys.exit(main())
