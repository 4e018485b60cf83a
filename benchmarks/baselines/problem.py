"""Training data and queries of a baseline; candidates and hits are those of the project's own `HoldOut`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.ids import as_text
from trainer.data.query_features import QUERY_FEATURES, user_profiles
from trainer.data.settings import DataConfig
from trainer.data.sources import prepare
from trainer.data.split import Split, some_users, split, without_validation
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.ranking import BlockScorer, rank_in_blocks
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.evaluation.settings import EvaluationConfig
from trainer.training.settings import TrainingConfig

_KS = (10, 20)
METRICS = ("recall@10", "ndcg@10", "recall@20", "hr@10", "mrr@10", "coverage@10")
Vectors = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Histories(UserItems):
    """Each user's items, by their positions among the candidates.

    Attributes:
        num_items: Number of candidates I.
    """

    num_items: int

    def matrix(self) -> sparse.csr_matrix:
        """Float32 [U, I] of ones."""
        ones = np.ones(len(self.items), np.float32)
        matrix = sparse.csr_matrix((ones, self.items, self.indptr), shape=(len(self), self.num_items))
        matrix.sort_indices()
        return matrix


@dataclass(frozen=True, eq=False)
class Problem:
    """A held-out part to predict.

    Attributes:
        learners: Histories of the users that a baseline may train on.
        evaluated: Histories of the U evaluated users: a baseline's only data about users that it was not trained on.
        learner_of: int64 [U]: row among the learners, -1 for unknown users.
        train: The same as `evaluated`, as sets: excluded from the rankings.
        test: The items to find.
        trained: Bool [I]: items with an event in the training part, positive or not; the others are cold.
        texts: Text of each candidate, for baselines that use text.
        described: Text and category labels of each candidate.
        learner_markets: Country of each learner, else their first language, else ''; empty: not known of anybody.
        evaluated_markets: The same of the evaluated users.
    """

    learners: Histories
    evaluated: Histories
    learner_of: npt.NDArray[np.int64]
    train: ItemSets
    test: ItemSets
    trained: npt.NDArray[np.bool_]
    texts: list[str]
    described: list[str]
    learner_markets: Sequence[str] = ()
    evaluated_markets: Sequence[str] = ()

    @classmethod
    def make(
        cls,
        catalogue: Catalogue,
        learn: pl.DataFrame,
        history: pl.DataFrame,
        held_out: pl.DataFrame,
        observed: pl.DataFrame | None = None,
        markets: Mapping[str, str] | None = None,
        most: int | None = None,
        seed: int = 0,
    ) -> "Problem":
        """From positives (user_id, item_id, timestamp).

        Args:
            catalogue: The items.
            learn: Positives to train on; a subset of ``history``.
            history: Positives before the held-out ones, of all evaluated users.
            held_out: Positives to find.
            observed: Every event of the training part (item_id); None: only the positives.
            markets: User -> country or language.
            most: Maximum number of users to evaluate, drawn as for Babelrec; None: all.
            seed: Of that draw.
        """
        hold_out = HoldOut(catalogue, _NOTHING_KNOWN, history, held_out, candidates=1, most=most, seed=seed)
        place = np.full(len(catalogue), -1, np.int64)
        place[hold_out.candidate_rows] = np.arange(len(hold_out.candidate_rows))
        users = hold_out.user_ids
        learners = sorted(learn["user_id"].unique())
        row_of = {user: row for row, user in enumerate(learners)}

        def histories(positives: pl.DataFrame, names: Sequence[str]) -> Histories:
            rows = UserItems.of(positives, catalogue, names)
            return Histories(rows.indptr, place[rows.items], len(hold_out.candidate_rows))

        seen = learn["item_id"] if observed is None else pl.concat([learn["item_id"], observed["item_id"]])
        texts = [catalogue.texts[row] for row in hold_out.candidate_rows]
        labels = [catalogue.labels(row) for row in hold_out.candidate_rows]
        return cls(
            learners=histories(learn, learners),
            evaluated=histories(hold_out.sample.of_table(history), users),
            learner_of=np.array([row_of.get(user, -1) for user in users], np.int64),
            train=hold_out.train,
            test=hold_out.test,
            trained=np.isin(hold_out.candidate_rows, catalogue.rows(seen)),
            texts=texts,
            described=[" ".join([text, *names]) for text, names in zip(texts, labels, strict=True)],
            learner_markets=[(markets or {}).get(user, "") for user in learners],
            evaluated_markets=[(markets or {}).get(user, "") for user in users],
        )

    def metrics(self, score: BlockScorer) -> dict[str, float]:
        """Full-catalogue metrics of P1, by the code that evaluates the model itself."""
        users, items = self.test.num_users, self.test.num_items
        rankings = rank_in_blocks(score, users, items, self.train, max(_KS))
        means = ranking_metrics(rankings, self.test, ks=_KS).means()
        return {name: float(means[name]) for name in METRICS}

    def user_vectors(self, known: Vectors, fold_in: Callable[[npt.NDArray[np.int64]], Vectors]) -> Vectors:
        """Vectors of the evaluated users: learned for training users, folded in from the history for others.

        Args:
            known: [learners, D].
            fold_in: Rows of `evaluated` -> their vectors [rows, D].
        """
        vectors = np.asarray(known)[np.maximum(self.learner_of, 0)].copy()
        unknown = np.flatnonzero(self.learner_of < 0)
        if unknown.size:
            vectors[unknown] = fold_in(unknown)
        return vectors

    def mean_of_history(self, item_vectors: Vectors, rows: npt.NDArray[np.int64]) -> Vectors:
        """Mean of the vectors of each history, [rows, D]; zero for an empty one."""
        histories = self.evaluated.matrix()[rows]
        sizes = np.maximum(np.diff(histories.indptr), 1)[:, None]
        means: Vectors = np.asarray(histories @ item_vectors) / sizes
        return means


_NOTHING_KNOWN = Vocabulary(
    users=[],
    items=[],
    categories=[],
    query_values={feature.name: [] for feature in QUERY_FEATURES},
    numeric={},
    embeddings={},
    events=[],
)


def dot_products(users: Vectors, items: Vectors) -> BlockScorer:
    """Scores by dot product of [U, D] and [I, D]."""
    return lambda block: users[block] @ items.T


def test_problem(data: DataConfig, seed: int) -> Problem:
    """The test part, after the training and validation parts.

    With ``split.train_users`` below 1 a baseline is trained on the same users as a run with this seed, and is
    evaluated on all.
    """
    dataset, parts = _parts(without_validation(data))
    chosen = some_users(parts, data.split.train_users, seed)
    return Problem.make(
        Catalogue.from_dataset(dataset),
        chosen.train,
        parts.train,
        parts.test,
        as_text(chosen.observed),
        markets=_markets(dataset),
        most=EvaluationConfig().users,
        seed=seed,
    )


def validation_problem(data: DataConfig, seed: int) -> Problem:
    """The validation part after the training part, of the training users. Never reads the test part.

    Raises:
        BabelrecError: there is no validation part.
    """
    dataset, parts = _parts(data)
    chosen = some_users(parts, data.split.train_users, seed)
    if chosen.validation.is_empty():
        raise BabelrecError("There is no validation part (data.split.validation_fraction is 0) to choose settings on.")
    return Problem.make(
        Catalogue.from_dataset(dataset),
        chosen.train,
        chosen.train,
        chosen.validation,
        markets=_markets(dataset),
        most=TrainingConfig().validation_users,
        seed=seed,
    )


def _markets(dataset: Dataset) -> dict[str, str]:
    profiles = user_profiles(dataset)
    columns = [name for name in ("profile_country", "profile_language") if name in profiles.columns]
    if not columns:
        return {}
    found = profiles.select("user_id", pl.coalesce(columns).fill_null("").alias("market"))
    return dict(found.iter_rows())


def _parts(data: DataConfig) -> tuple[Dataset, Split]:
    dataset = prepare(data.source)
    return dataset, split(dataset, data)
