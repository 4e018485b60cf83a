"""Two models on the same newest events: what the gate compares."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.query_features import user_profiles
from trainer.data.split import Split, held_out_events
from trainer.data.vocabulary import Vocabulary
from trainer.evaluation.heads.events import head_events
from trainer.evaluation.heads.quality import evaluate_heads
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.ranking import Rankings
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.models.assembly import load_over
from trainer.models.calibration import load_calibrations
from trainer.runs import Run

_CUT_OFF = 10


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What both models are asked.

    Attributes:
        dataset: The newest data.
        catalogue: Its items.
        parts: Its split: ``train`` is what came before, ``test`` what neither model has learned from.
        profiles: From `trainer.data.query_features.user_profiles`.
    """

    dataset: Dataset
    catalogue: Catalogue
    parts: Split
    profiles: pl.DataFrame

    @classmethod
    def of(cls, dataset: Dataset, parts: Split) -> "Problem":
        """The problem of a split."""
        return cls(dataset, Catalogue.from_dataset(dataset), parts, user_profiles(dataset))

    @property
    def languages(self) -> pl.DataFrame:
        """``user_id`` and the person's ``language``: of the newest events, or else of the profile; may be null."""
        people = self.parts.test.select(pl.col("user_id").unique().sort())
        columns = []
        if "language" in self.parts.test.columns:
            asked = self.parts.test.group_by("user_id").agg(pl.col("language").drop_nulls().first().alias("asked"))
            people = people.join(asked, on="user_id", how="left", maintain_order="left")
            columns.append("asked")
        if "profile_language" in self.profiles.columns:
            people = people.join(self.profiles, on="user_id", how="left", maintain_order="left")
            columns.append("profile_language")
        language = pl.coalesce(columns) if columns else pl.lit(None, pl.String)
        return people.select("user_id", language.alias("language"))


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One model's answers.

    Attributes:
        known: Items that it knows by their id.
        users: The U people, in order.
        items: Catalogue rows of the candidates, int [I].
        test: Their newest positives among the candidates.
        rankings: Int [U, 10] candidates, -1 pads.
        coverage: Share of the candidates that any list shows.
        log_losses: Probability head -> mean log loss (nats) of the newest events, calibrated as served.
    """

    known: frozenset[str]
    users: Sequence[str]
    items: npt.NDArray[np.int64]
    test: ItemSets
    rankings: Rankings
    coverage: float
    log_losses: dict[str, float]


def judge(run: Run, problem: Problem) -> Judged:
    """Asks a model for each person's list, at the moment before the newest events.

    Candidates are the items that anybody has ever chosen; an item that is new to the model is placed by its content.

    Args:
        run: A finished run.
        problem: What to ask.
    """
    vocabulary = Vocabulary.load(run.vocabulary)
    model, items = load_over(run, problem.catalogue)
    hold_out = HoldOut(
        problem.catalogue,
        vocabulary,
        problem.parts.train,
        problem.parts.test,
        candidates=run.config.export.candidates,
        profiles=problem.profiles,
    )
    ranker = hold_out.ranker(model, items, run.read("blend.json"))
    rankings = hold_out.rankings(ranker, _CUT_OFF)
    found = ranking_metrics(rankings, hold_out.test, ks=(_CUT_OFF,))
    losses: dict[str, float] = {}
    if model.heads:
        events = head_events(
            ranker,
            problem.catalogue,
            vocabulary,
            model.heads,
            problem.parts.train,
            held_out_events(problem.dataset, problem.parts, "test"),
            problem.profiles,
        )
        quality = evaluate_heads(
            model.heads, events, load_calibrations(run), model.ranking_model.scale.numpy(), resamples=0
        )
        losses = {
            name: each.probabilities[each.applied]["log_loss"].value
            for name, each in quality.items()
            if each.applied is not None
        }
    return Judged(
        known=frozenset(vocabulary.items),
        users=hold_out.user_ids,
        items=hold_out.candidate_rows,
        test=hold_out.test,
        rankings=rankings,
        coverage=found.totals[f"coverage@{_CUT_OFF}"],
        log_losses=losses,
    )
