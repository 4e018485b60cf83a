"""P5: does learning on pay? Window by window, models learned before it answer each positive in it."""

import gc
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trainer.data.vocabulary import Vocabulary
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import Metric, ranking_metrics
from trainer.evaluation.metrics.ranking import Rankings
from trainer.evaluation.metrics.registry import METRICS
from trainer.evaluation.metrics.slices import SliceSize
from trainer.evaluation.prequential.figures import Answered, Figures
from trainer.evaluation.prequential.learners import Learned, Learners
from trainer.evaluation.prequential.result import PrequentialResult
from trainer.evaluation.prequential.stream import Questions, Stream
from trainer.evaluation.prequential.windows import Window, cut
from trainer.evaluation.report.contents import BaselineResult, EvaluationReport, Sizes
from trainer.locks import writing_alone
from trainer.models.assembly import load_over
from trainer.models.ranker import CatalogueRanker
from trainer.runs import Run

UPDATED, RETRAINED, FROZEN, POPULARITY = "updated", "retrained", "frozen", "popularity"
WINDOW: Final = "window"
FOLDER: Final = "prequential"
# One item is wanted, so the others repeat these: HR is Recall, and MRR nearly NDCG.
_METRICS: Final = (METRICS["recall"], METRICS["ndcg"])


def evaluate_prequential(run: Run) -> EvaluationReport:
    """Learning on, measured by the settings and the data of a run, which need not be finished.

    Models are runs below its directory; those finished by an earlier evaluation are used again.

    Raises:
        BabelrecError: the data can't be cut into windows, a window has no positive, a model could not be trained, or
            another process evaluates there.
    """
    folder = run.path / FOLDER
    with writing_alone(folder):
        return _Evaluation(run, Learners(run.config, run.dataset(), folder)).report()


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """A window, the worth of the answers, and the processor seconds of each model's training before it."""

    window: Window
    answered: Answered
    size: SliceSize
    seconds: dict[str, float]


class _Evaluation:
    def __init__(self, run: Run, learners: Learners) -> None:
        self._run = run
        self._learners = learners
        self._dataset = run.dataset()
        self._settings = run.config.evaluation.prequential
        self._ks = run.config.evaluation.ks
        self._stream = Stream(self._dataset, run.config.data.positives)
        self._console = Console()
        self._began = time.monotonic()

    def report(self) -> EvaluationReport:
        """Trains and asks all models."""
        windows = cut(self._dataset, self._settings)
        config = self._run.config
        # All of them first: a window without positives is no use, and the models take hours.
        questions = [self._stream.questions(each, self._settings.positives, config.seed) for each in windows]
        found: list[_Measured] = []
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal) as progress:
            task = progress.add_task("", total=2 * len(windows) - 1)

            def working_on(window: Window, model: str) -> None:
                progress.update(task, description=f"Window {window.number} of {len(windows)}, {model}")

            frozen = updated = None
            for window, asked in zip(windows, questions, strict=True):
                working_on(window, RETRAINED)
                models = {RETRAINED: self._learners.retrained(window)}
                progress.advance(task)
                if frozen is None or updated is None:
                    frozen = updated = models[RETRAINED]
                else:
                    working_on(window, UPDATED)
                    updated = self._learners.updated(window, updated.run)
                    progress.advance(task)
                models |= {UPDATED: updated, FROZEN: frozen}
                found.append(self._measure(window, asked, models))
        return self._summary(found)

    def _measure(self, window: Window, questions: Questions, models: dict[str, Learned]) -> _Measured:
        """Asks the models about a window."""
        rankings: dict[Learned, Rankings] = {each: self._rank(each.run, questions) for each in set(models.values())}
        started = time.process_time()
        counts = self._stream.popularity(window)
        counting = time.process_time() - started
        popular = self._stream.rank_popular(questions, counts, max(self._ks))
        lists = {UPDATED: rankings[models[UPDATED]], RETRAINED: rankings[models[RETRAINED]]}
        lists |= {FROZEN: rankings[models[FROZEN]], POPULARITY: popular}
        size = len(questions)
        wanted = ItemSets.from_pairs(
            np.arange(size), questions.targets, num_users=size, num_items=len(self._stream.catalogue)
        )
        values = {
            name: ranking_metrics(each, wanted, ks=self._ks, metrics=_METRICS).values for name, each in lists.items()
        }
        known = int((self._stream.arrivals < window.end).sum())
        seconds = {name: learned.seconds for name, learned in models.items()} | {POPULARITY: counting}
        if window.number > 1:
            seconds[FROZEN] = 0.0
        shown = next(iter(values[UPDATED]))
        figures = ", ".join(f"{name} {float(each[shown].mean()):.4f}" for name, each in values.items())
        self._console.print(f"Window {window.name}: {shown}: {figures}", highlight=False, markup=False, soft_wrap=True)
        return _Measured(
            window,
            Answered(questions.users, values),
            SliceSize(len(np.unique(questions.users)), known, size),
            {name: round(seconds[name], 2) for name in lists},
        )

    def _rank(self, run: Run, questions: Questions) -> Rankings:
        """A model's answers as served: whole requests, and new items by their content."""
        vocabulary = Vocabulary.load(run.vocabulary)
        model, items = load_over(run, self._stream.catalogue)
        length = max(self._ks)
        candidates = max(run.config.export.candidates, length)
        ranker = CatalogueRanker(model, items, run.read("blend.json"), candidates=candidates)
        rankings = self._stream.rank(ranker, questions, vocabulary, length)
        # A model's graphs hold on to it in circles.
        del ranker, model, items
        gc.collect()
        return rankings

    def _summary(self, found: list[_Measured]) -> EvaluationReport:
        evaluation = self._run.config.evaluation
        figures = Figures(
            [each.answered for each in found],
            len(self._stream.user_ids),
            resamples=evaluation.bootstrap_samples,
            seed=self._run.config.seed,
        )
        others = (RETRAINED, FROZEN, POPULARITY)
        slices = {
            model: {WINDOW: {each.window.name: figures.of_window(place, model) for place, each in enumerate(found)}}
            for model in figures.models
        }
        seconds = {model: [each.seconds[model] for each in found] for model in figures.models}
        ratios = {other: figures.ratio(UPDATED, other) for other in others}
        # The first window's model is common to both.
        ratios[RETRAINED]["processor_seconds"] = Metric(sum(seconds[UPDATED][1:]) / sum(seconds[RETRAINED][1:]))
        before = self._stream.positives.filter(pl.col("timestamp") < found[0].window.begin)
        return EvaluationReport(
            dataset=self._dataset.name,
            protocol="P5",
            split="test",
            model=UPDATED,
            metrics=figures.overall(UPDATED),
            slices=slices[UPDATED],
            seconds=time.monotonic() - self._began,
            sizes=Sizes(
                users=len(np.unique(np.concatenate([each.answered.users for each in found]))),
                items=found[-1].size.items,
                training=before.height,
                test=sum(each.size.positives for each in found),
            ),
            slice_sizes={WINDOW: {each.window.name: each.size for each in found}},
            baselines=tuple(
                BaselineResult(
                    other, figures.overall(other), slices[other], advantage=figures.difference(UPDATED, other)
                )
                for other in others
            ),
            prequential=PrequentialResult(seconds, ratios),
        )
