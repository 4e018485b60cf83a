"""A small version of the benchmark: what is decided, and what a bad update costs."""

from collections import Counter
from dataclasses import replace

import pytest
from scipy import stats

from benchmarks.loop.rollout_power import UPDATES, Traffic, Trial, Update, bars, trial
from serving.service.rollout.settings import RolloutSettings

_TRAFFIC = Traffic(people=8_000, answers=30_000)
_SETTINGS = RolloutSettings(most_answers=30_000, margin=0.1)


def _trials(update: Update, count: int) -> list[Trial]:
    return [trial(update, _TRAFFIC, _SETTINGS, 100 + number) for number in range(count)]


@pytest.mark.parametrize(
    "update",
    [Update(clicks=-0.8), Update(hurt=0.5), Update(clicks=0.1, satisfaction=-0.4), Update(purchases=-0.5)],
)
def test_what_is_worse_is_rolled_back_before_it_costs_much(update: Update) -> None:
    trials = _trials(update, 5)
    assert {each.verdict for each in trials} == {"worse"}
    assert max(each.lost for each in trials) <= 0.05


def test_what_fails_is_rolled_back() -> None:
    trials = _trials(Update(fails=0.3), 3)
    assert {each.verdict for each in trials} == {"worse"}
    assert max(each.answers for each in trials) < 10_000


def test_what_is_better_is_promoted() -> None:
    trials = _trials(Update(clicks=0.4), 5)
    assert {each.verdict for each in trials} == {"better"}
    assert max(each.answers for each in trials) < _TRAFFIC.answers


def test_what_is_equal_is_seldom_called_better_or_worse() -> None:
    found = Counter(each.verdict for each in _trials(Update(), 15))
    assert stats.binomtest(found["better"] + found["worse"], 15, 0.05, alternative="greater").pvalue > 0.01


def test_the_same_seed_is_the_same_trial() -> None:
    update = Update(clicks=-0.2)
    assert trial(update, _TRAFFIC, _SETTINGS, 1) == trial(update, _TRAFFIC, _SETTINGS, 1)
    other = trial(update, replace(_TRAFFIC, people=2_000), _SETTINGS, 1)
    assert other.lost != trial(update, _TRAFFIC, _SETTINGS, 1).lost


def test_bars_are_those_of_the_issue() -> None:
    fine = {"trials": 20, "better": 18, "no worse": 0, "worse": 0, "undecided": 2, "most answers": 1, "most lost": 0.01}
    found = {name: dict(fine) for name in UPDATES}
    for name in UPDATES:
        if UPDATES[name] not in (Update(), UPDATES["3 % better"]):
            found[name] |= {"better": 0, "worse": 20, "undecided": 0}
    found["equal"] |= {"better": 0, "worse": 1}
    assert [bar["holds"] for bar in bars(found)] == [True] * 5
    found["20 % worse (items doubled)"] |= {"most lost": 0.06}
    found["equal"] |= {"worse": 2}
    found["3 % better"] |= {"better": 15}
    assert [bar["holds"] for bar in bars(found)] == [False, True, False, True, False]
