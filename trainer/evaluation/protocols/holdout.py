"""A held-out part as a ranking problem: its users, exclusions and hits."""

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.data.catalogue import Catalogue
from trainer.data.item_table import ItemTable
from trainer.data.requests import Requests
from trainer.data.user_items import UserItems
from trainer.data.vocabulary import Vocabulary
from trainer.evaluation.metrics.item_sets import ItemSets
from trainer.evaluation.metrics.per_user import ranking_metrics
from trainer.evaluation.metrics.ranking import Rankings
from trainer.evaluation.metrics.slices import language_labels, slice_by_items
from trainer.evaluation.protocols.baselines import rank_by_popularity
from trainer.evaluation.protocols.language_pairs import slice_by_language_pair
from trainer.evaluation.sampling import SamplingError, UserSample
from trainer.models.ranker import CatalogueRanker
from trainer.models.recommender import Recommender

_LOG = logging.getLogger(__name__)
_CUT_OFF = 10
_Floats = npt.NDArray[np.floating]


class HoldOut:
    """Users with held-out positives, their histories, and the candidates (protocol P1).

    Candidates are the items with a positive in either part; others are never ranked.

    Args:
        catalogue: N items.
        vocabulary: The users known to the model.
        history: Positives before the held-out ones: user_id, item_id, timestamp.
        held_out: Positives to find.
        candidates: Number of items that retrieval passes to ranking.
        known_users: False treats the users as unknown, with only history and profile (P2).
        profiles: From `trainer.data.query_features.user_profiles`.
        most: Maximum number of users to evaluate, drawn at random if there are more; None: all.
        seed: Of that draw.

    Attributes:
        sample: The users evaluated. Candidates and counts are those of everybody.
        error: What evaluating only some of the users costs in precision, as of the last `metrics`; None: all are.
    """

    monitor = "recall@10"
    """The one of `metrics` used for early stopping."""
    blend_metric = f"ndcg@{_CUT_OFF}"
    """What `blend_data` measures."""

    def __init__(
        self,
        catalogue: Catalogue,
        vocabulary: Vocabulary,
        history: pl.DataFrame,
        held_out: pl.DataFrame,
        *,
        candidates: int,
        known_users: bool = True,
        profiles: pl.DataFrame | None = None,
        most: int | None = None,
        seed: int = 0,
    ) -> None:
        self._size = candidates
        self.sample = UserSample.of(held_out["user_id"], most, seed)
        self.error: SamplingError | None = None
        self._stated: set[str] = set()
        users = self.user_ids = self.sample.users
        mine = self.sample.of_table(held_out)
        self.requests = Requests.of_users(
            users,
            self.sample.of_table(history),
            catalogue,
            vocabulary,
            known=known_users,
            profiles=profiles,
            moments=mine,
        )
        """One request of each user: history, profile, and the moment of the first held-out positive."""
        self._held_out = UserItems.of(mine, catalogue, users)
        # Of distinct items: there may be many millions of positives.
        chosen = history.group_by("item_id").len()
        rows = catalogue.rows(chosen["item_id"])
        self.candidate_rows = np.union1d(rows, catalogue.rows(held_out["item_id"].unique())).astype(np.int64)
        self._allowed = np.zeros(len(catalogue), bool)
        self._allowed[self.candidate_rows] = True
        self._place = np.full(len(catalogue) + 1, -1, np.int64)
        self._place[self.candidate_rows] = np.arange(len(self.candidate_rows))
        self.train = self._sets(self.requests.histories)
        self.test = self._sets(self._held_out)
        self.training_counts = np.zeros(len(self.candidate_rows), np.int64)
        self.training_counts[self._place[rows]] = chosen["len"].to_numpy()
        """Int64 [I]: training positives of each candidate, including those of users not evaluated."""
        self.languages = [catalogue.languages[row] for row in self.candidate_rows]

    def ranker(
        self,
        model: Recommender,
        items: ItemTable,
        weights: Mapping[str, float],
    ) -> CatalogueRanker:
        """A ranker of whole requests over the candidates."""
        return CatalogueRanker(model, items, weights, candidates=self._size, allowed=self._allowed)

    def among(self, ranker: CatalogueRanker, only: npt.NDArray[np.bool_]) -> CatalogueRanker:
        """The ranker over the candidates marked by bool ``only`` [I]."""
        allowed = np.zeros_like(self._allowed)
        allowed[self.candidate_rows[only]] = True
        return ranker.restricted(allowed)

    def rankings(self, ranker: CatalogueRanker, k: int) -> Rankings:
        """The k best candidates of each user, int64 [U, k] positions in ``candidate_rows``, -1 pads."""
        return self._place[ranker.rank(self.requests, k)]

    def parts(
        self, ranker: CatalogueRanker
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Retrieved candidates [U, C] (-1 pads), retrieval logits [U, C] and signals of ranking [U, C, signals]."""
        rows, retrieval, outputs = ranker.parts(self.requests)
        return self._place[rows.numpy()], retrieval.numpy(), outputs.numpy()

    def blend_data(
        self, ranker: CatalogueRanker
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Callable[[_Floats], _Floats]]:
        """Data for choosing a blend: retrieval logits [U, C], signals [U, C, signals], and NDCG@10 [U] by scores."""
        rows, retrieval, outputs = self.parts(ranker)

        def quality(scores: _Floats) -> _Floats:
            ordered = np.argsort(-np.where(rows >= 0, scores, -np.inf), axis=1, kind="stable")[:, :_CUT_OFF]
            rankings = np.take_along_axis(rows, ordered, axis=1)
            rankings = np.pad(rankings, [(0, 0), (0, _CUT_OFF - rankings.shape[1])], constant_values=-1)
            return ranking_metrics(rankings, self.test, ks=(_CUT_OFF,)).values[self.blend_metric]

        return retrieval, outputs, quality

    def sample_positives(
        self, most: int, draws: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """A sample of held-out positives: int64 [n] positions of their users, and int64 [n] item rows."""
        held_out = self._held_out
        chosen = np.sort(draws.permutation(len(held_out.items))[:most])
        return held_out.users()[chosen], held_out.items[chosen].astype(np.int64)

    def seen(self, users: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Bool [n, N]: items in the histories of the users at these positions, which are not results."""
        seen = np.zeros((len(users), len(self._allowed)), bool)
        for place, user in enumerate(users):
            seen[place, self.requests.histories.of_user(user)] = True
        return seen

    def metrics(self, ranker: CatalogueRanker, ks: Sequence[int] = (10,)) -> dict[str, float]:
        """Recall and NDCG, overall and as ``item_language/<tag>/<metric>``; recall by pair of languages.

        The latter is named ``language_pair/<history's>_to_<item's>/recall@k``.
        """
        rankings = self.rankings(ranker, max(ks))
        per_user = ranking_metrics(rankings, self.test, ks=ks)
        means = per_user.means()
        wanted = [f"{metric}@{k}" for metric in ("recall", "ndcg") for k in ks]
        found = {name: means[name] for name in wanted}
        for language, part in slice_by_items(rankings, self.test, language_labels(self.languages), ks=ks).items():
            part_means = part.metrics.means()
            found |= {f"item_language/{language}/{name}": part_means[name] for name in wanted}
        if self.sample.is_part:
            self._state(SamplingError.of_values(self.sample, {name: per_user.values[name] for name in wanted}))
        pairs = slice_by_language_pair(rankings, self.test, self.train, language_labels(self.languages), ks=ks)
        for (reader, language), part in pairs.items():
            part_means = part.metrics.means()
            found |= {f"language_pair/{reader}_to_{language}/recall@{k}": part_means[f"recall@{k}"] for k in ks}
        return found

    def popularity(self) -> dict[str, float]:
        """Recall@10 and NDCG@10 of the most popular items for everybody."""
        rankings = rank_by_popularity(self.training_counts, self.train, _CUT_OFF)
        means = ranking_metrics(rankings, self.test, ks=(_CUT_OFF,)).means()
        return {name: means[name] for name in (f"recall@{_CUT_OFF}", f"ndcg@{_CUT_OFF}")}

    def _state(self, error: SamplingError) -> None:
        """Keeps the error, and logs that of each metric once."""
        if not error.standard_error.keys() <= self._stated:
            self._stated |= error.standard_error.keys()
            _LOG.info(
                "Validation ranks %s of %s users (training.validation_users), the same ones each time; standard error: "
                "%s.",
                f"{error.users:,}",
                f"{error.of:,}",
                ", ".join(f"{name} {value:.4f}" for name, value in error.standard_error.items()),
            )
        self.error = error

    def _sets(self, rows: UserItems) -> ItemSets:
        return ItemSets.from_pairs(
            rows.users(), self._place[rows.items], num_users=len(rows), num_items=len(self.candidate_rows)
        )
