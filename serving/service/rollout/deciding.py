"""Reads the comparison of two arms: go on, more people, promote, roll back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from serving.service.rollout.sequential import Arms, Floats, Lift, lift
from serving.service.rollout.settings import RolloutSettings

CTR: Final = "ctr"
MEASURES: Final[Mapping[str, float]] = {CTR: 0.6, "purchases": 0.2, "satisfaction": 0.2}
"""Measures, and the part of `alpha` that each may spend: all intervals hold together with probability 1 - alpha."""

# Of the bounds that hold at one time only: whether a stage may begin, and the end of the trial.
_ONCE: Final = 0.05


class Action(StrEnum):
    """What becomes of a trial."""

    WAIT = "wait"
    GROW = "grow"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """What both arms did until now.

    Attributes:
        arms: R rows, for each person in a stage and an arm.
        sums: Measure -> numerator and denominator, [R] each.
        answers: In both arms.
        canary_answers: For people of the canary, whoever gave them.
        failures: Of these, given by the stable version because the canary did not answer.
    """

    arms: Arms
    sums: Mapping[str, tuple[Floats, Floats]]
    answers: int
    canary_answers: int
    failures: int


@dataclass(frozen=True, slots=True)
class Figure:
    """The lift of one measure.

    Attributes:
        value: The estimate; 0.03 is 3 % better.
        error: Its standard error.
        low, high: Always-valid bounds.
    """

    value: float
    error: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and why.

    Attributes:
        action: What to do.
        reason: A sentence; empty for `Action.WAIT`.
        figures: By measure, those that can be compared yet.
        people: Of the stable arm and of the canary.
        answers, canary_answers, failures: As of `Observed`.
    """

    action: Action
    reason: str
    figures: Mapping[str, Figure]
    people: tuple[int, int]
    answers: int
    canary_answers: int
    failures: int


def decide(observed: Observed, stage: int, days: float, settings: RolloutSettings) -> Decision:
    """What to do now.

    Args:
        observed: Since the trial began.
        stage: The present one, a place in the settings' shares.
        days: Since the trial began.
        settings: Of the trial.
    """
    arms = observed.arms
    people = _people(arms)
    lifts: dict[str, Lift] = {}
    if min(people) >= settings.least_people:
        for name in MEASURES:
            numerator, denominator = observed.sums[name]
            if numerator[~arms.is_canary].sum() >= settings.least_taken:
                found = lift(arms, numerator, denominator)
                if found is not None:
                    lifts[name] = found
    figures = {name: _figure(each, settings.alpha * MEASURES[name]) for name, each in lifts.items()}
    action, reason = _action(observed, lifts, figures, stage, days, settings)
    return Decision(action, reason, figures, people, observed.answers, observed.canary_answers, observed.failures)


def _action(
    observed: Observed,
    lifts: Mapping[str, Lift],
    figures: Mapping[str, Figure],
    stage: int,
    days: float,
    settings: RolloutSettings,
) -> tuple[Action, str]:
    failures, most = observed.failures, settings.most_failing * observed.canary_answers
    if failures >= settings.least_failures and failures > most:
        return Action.ROLL_BACK, (
            f"The canary failed in {failures:,} of {observed.canary_answers:,} answers, which the stable version gave "
            "in its place."
        )
    for name, figure in figures.items():
        if figure.high < 0.0:
            return Action.ROLL_BACK, f"The canary is worse: {_text(name, figure)}."
    doubtful = _doubtful(lifts, figures, settings)
    if CTR in figures and figures[CTR].low > 0.0 and not doubtful:
        return Action.PROMOTE, f"The canary is better: {_text(CTR, figures[CTR])}."
    if observed.answers >= settings.most_answers or days >= settings.most_days:
        return _end(lifts, figures, doubtful, settings)
    if CTR not in lifts or stage + 1 >= len(settings.shares):
        return Action.WAIT, ""
    least = min(_people(_of_stage(observed.arms, stage)))
    most_loss = -lifts[CTR].once(_ONCE)
    if least < settings.least_people or settings.shares[stage + 1] * most_loss > settings.most_lost:
        return Action.WAIT, ""
    return Action.GROW, f"{least:,} people of each arm showed no great loss: {_text(CTR, figures[CTR])}."


def _end(
    lifts: Mapping[str, Lift], figures: Mapping[str, Figure], doubtful: Sequence[str], settings: RolloutSettings
) -> tuple[Action, str]:
    """The trial is over: its length was set before, so that a bound which holds once is enough."""
    if CTR not in lifts:
        return Action.ROLL_BACK, "The trial ended with too few people or clicks to compare."
    least = lifts[CTR].once(_ONCE)
    text = f"{_text(CTR, figures[CTR])}; with 95 % certainty at least {least:+.2%}"
    if least <= -settings.margin:
        return (
            Action.ROLL_BACK,
            f"The trial ended, and the canary may be worse by {settings.margin:.1%} or more: {text}.",
        )
    if doubtful:
        return Action.ROLL_BACK, f"The trial ended, and the canary may be worse: {'; '.join(doubtful)}."
    return Action.PROMOTE, f"The trial ended, and the canary is not worse by {settings.margin:.1%}: {text}."


def _doubtful(lifts: Mapping[str, Lift], figures: Mapping[str, Figure], settings: RolloutSettings) -> Sequence[str]:
    """Measures besides the CTR that may be worse by more than is accepted."""
    return [
        _text(name, figures[name])
        for name, each in lifts.items()
        if name != CTR and each.once(_ONCE) <= -settings.guard_margin
    ]


def _figure(found: Lift, alpha: float) -> Figure:
    low, high = found.always(alpha)
    return Figure(found.value, found.error, low, high)


def _text(name: str, figure: Figure) -> str:
    return f"{name} {figure.value:+.2%} ({figure.low:+.2%} to {figure.high:+.2%})"


def _of_stage(arms: Arms, stage: int) -> Arms:
    rows = arms.stage == stage
    return Arms(arms.person[rows], arms.stage[rows], arms.is_canary[rows])


def _people(arms: Arms) -> tuple[int, int]:
    """Different people in the stable arm and in the canary."""
    stable, canary = (int(np.count_nonzero(np.bincount(arms.person[arms.is_canary == each]))) for each in (False, True))
    return stable, canary
