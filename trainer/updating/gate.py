"""The gate: whether a challenger may replace the champion."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.data.dataset import Dataset
from trainer.data.split import split
from trainer.evaluation.metrics.intervals import bootstrap_interval
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.registry import METRICS
from trainer.evaluation.metrics.slices import COLD, WARM, language_labels
from trainer.runs import Run
from trainer.updating.judging import Judged, Problem, judge
from trainer.updating.settings import GateConfig
from trainer.updating.verdict import Check, Kind, Verdict

_Floats = npt.NDArray[np.float64]
_CUT_OFF = 10


def refuse_data(champion: Run, data: Sequence[Check], since: int) -> Verdict:
    """The verdict on data that nothing should be learned from.

    Args:
        champion: The served run.
        data: The checks of the data, at least one of which fails.
        since: Unix seconds from which on events are new.
    """
    return Verdict(
        promoted=False,
        champion=str(champion.path.absolute()),
        challenger=None,
        since=since,
        people=0,
        positives=0,
        checks=data,
    )


def compare(
    champion: Run,
    challenger: Run,
    dataset: Dataset,
    settings: GateConfig,
    data: Sequence[Check] = (),
    earlier: Verdict | None = None,
) -> Verdict:
    """Compares both models on the positives that the challenger's split has held back.

    Neither has learned from them: the champion's data ends before. Differences are paired by person; intervals are
    percentile bootstraps over people.

    Args:
        champion: The served run.
        challenger: Made by `trainer.updating.learning.learn_on` with ``kept`` positives.
        dataset: The challenger's.
        settings: The conditions.
        data: The checks of the data, which are part of the verdict.
        earlier: By which the champion was promoted; None: it is the first one.
    """
    problem = Problem.of(dataset, split(dataset, challenger.config.data))
    before, after = judge(champion, problem), judge(challenger, problem)
    resamples, seed = challenger.config.evaluation.bootstrap_samples, challenger.config.seed
    test = problem.parts.test
    since = int(test["timestamp"].min())  # type: ignore[arg-type]  # not empty: `kept` is at least 1
    slices = _Slices(settings, before, after, resamples, seed)
    checks = [
        slices.check("quality", "all people", before.test, None),
        *_of_slices(slices, problem, before),
        Check(
            kind="coverage",
            name="all lists",
            measure=f"coverage@{_CUT_OFF}",
            champion=before.coverage,
            challenger=after.coverage,
            limit=settings.coverage * before.coverage,
            holds=after.coverage >= settings.coverage * before.coverage,
        ),
        *_calibration(before, after, settings),
        *_fallen(slices, before, earlier, settings),
        *data,
    ]
    found = [check for check in checks if check is not None]
    return Verdict(
        promoted=all(check.holds for check in found),
        champion=str(champion.path.absolute()),
        challenger=str(challenger.path.absolute()),
        since=since,
        people=len(before.users),
        positives=test.height,
        checks=found,
    )


class _Slices:
    """Compares the models on parts of people and items."""

    def __init__(self, settings: GateConfig, before: Judged, after: Judged, resamples: int, seed: int) -> None:
        self._settings = settings
        self._before, self._after = before, after
        self._resamples, self._seed = resamples, seed
        self._metric = METRICS[settings.metric.removesuffix(f"@{_CUT_OFF}")]

    def check(self, kind: Kind, name: str, test: ItemSets, people: npt.NDArray[np.bool_] | None) -> Check | None:
        """The condition of one slice; None if it has too few people.

        Args:
            kind: ``quality``: of all, or ``slice``.
            name: Of the slice.
            test: The positives that count.
            people: Bool [U], who counts; None: all.
        """
        one, other = (self._values(each, test, people) for each in (self._before, self._after))
        known = ~np.isnan(one)
        count = int(known.sum())
        if kind == "slice" and count < self._settings.slice_least:
            return None
        differences = (other - one)[known]
        low, high = bootstrap_interval(differences[:, None], resamples=self._resamples, seed=self._seed)[0]
        champion, challenger = float(one[known].mean()), float(other[known].mean())
        margin = self._settings.margin if kind == "quality" else self._settings.slice_margin
        limit = (1.0 - margin) * champion
        # Neither alone: a few people differ by chance, and the events favour the champion, whose lists were shown.
        fails = bool(high < 0.0) and challenger < limit
        return Check(
            kind=kind,
            name=name,
            measure=self._settings.metric,
            champion=champion,
            challenger=challenger,
            limit=limit,
            holds=not fails,
            people=count,
            difference=float(differences.mean()),
            low=float(low),
            high=float(high),
        )

    def mean(self, judged: Judged) -> float:
        """The metric of one model, over all people."""
        return float(np.nanmean(self._values(judged, judged.test, None)))

    def _values(self, judged: Judged, test: ItemSets, people: npt.NDArray[np.bool_] | None) -> _Floats:
        found = ranking_metrics(judged.rankings, test, ks=(_CUT_OFF,), metrics=[self._metric])
        values = found.values[self._settings.metric]
        return values if people is None else np.where(people, values, np.nan)


def _fallen(slices: "_Slices", before: Judged, earlier: Verdict | None, settings: GateConfig) -> Iterator[Check]:
    """Whether the champion finds in the new events what it found before: in shuffled ones there is nothing to find."""
    if earlier is None:
        return
    then, now = earlier.checks[0].challenger, slices.mean(before)
    limit = (1.0 - settings.fallen) * then
    yield Check(
        kind="data",
        name="the champion, when promoted and now",
        measure=settings.metric,
        champion=then,
        challenger=now,
        limit=limit,
        holds=now >= limit,
    )


def _of_slices(slices: _Slices, problem: Problem, before: Judged) -> Iterator[Check | None]:
    """By the items' language, whether the champion knows them, and the people's language."""
    catalogue = problem.catalogue
    tags = language_labels([catalogue.languages[row] for row in before.items])
    temperature = [WARM if catalogue.item_ids[row] in before.known else COLD for row in before.items]
    for form, labels in (("items in {}", tags), ("{} items", temperature)):
        for label in _distinct(labels):
            only = np.array([each == label for each in labels])
            yield slices.check("slice", form.format(label), before.test.only_items(only), None)
    languages = problem.languages["language"].to_list()
    for language in _distinct([each for each in languages if each]):
        people = np.array([each == language for each in languages])
        yield slices.check("slice", f"people who read {language}", before.test, people)


def _distinct(labels: Sequence[str]) -> list[str]:
    return pl.Series(labels, dtype=pl.String).unique().sort().to_list()


def _calibration(before: Judged, after: Judged, settings: GateConfig) -> Iterator[Check]:
    """Of the probabilities that both models predict."""
    for head in sorted(before.log_losses.keys() & after.log_losses.keys()):
        limit = (1.0 + settings.calibration) * before.log_losses[head]
        yield Check(
            kind="calibration",
            name=f"probability_{head}",
            measure="log loss",
            champion=before.log_losses[head],
            challenger=after.log_losses[head],
            limit=limit,
            holds=after.log_losses[head] <= limit,
        )
