"""A held-out part evaluated by its impressions, for early stopping and the blend under P3."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.config.settings import Config
from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.impressions import Impressions
from trainer.data.query_features import user_profiles
from trainer.data.split import Split, impression_cut_times
from trainer.data.vocabulary import Vocabulary
from trainer.errors import BabelrecError
from trainer.evaluation.metrics.impressions import impression_metrics
from trainer.evaluation.protocols.holdout import HoldOut
from trainer.evaluation.protocols.impression_scores import impression_requests
from trainer.evaluation.sampling import SamplingError, UserSample, standard_error
from trainer.models.ranker import CatalogueRanker


def make_hold_out(
    dataset: Dataset, catalogue: Catalogue, vocabulary: Vocabulary, parts: Split, config: Config
) -> HoldOut | None:
    """The validation part as a ranking problem, of impressions if the split is by impressions; None without one."""
    if parts.validation.is_empty():
        return None
    candidates, profiles = config.export.candidates, user_profiles(dataset)
    if config.data.split.kind != "impressions":
        return HoldOut(
            catalogue,
            vocabulary,
            parts.train,
            parts.validation,
            candidates=candidates,
            profiles=profiles,
            most=config.training.validation_users,
            seed=config.seed,
        )
    begin, end = impression_cut_times(dataset, config.data.split)
    shown = Impressions.from_dataset(dataset, catalogue, start=begin, stop=end)
    return ImpressionHoldOut(
        catalogue,
        vocabulary,
        parts,
        shown,
        candidates=candidates,
        profiles=profiles,
        most=config.training.validation_users,
        seed=config.seed,
    )


class ImpressionHoldOut(HoldOut):
    """Like `HoldOut`, evaluated by the AUC of impressions.

    Args:
        catalogue: N items.
        vocabulary: The users known to the model.
        parts: Training positives are the histories, validation positives the targets of whole lists.
        impressions: Impressions of the validation part; those with a click and a non-click are evaluated.
        candidates: Number of items that retrieval passes to ranking.
        profiles, most, seed: See `HoldOut`; of the impressions' users, as many are drawn.

    Raises:
        BabelrecError: No impression can be evaluated.
    """

    monitor = "auc"
    blend_metric = "auc"

    def __init__(
        self,
        catalogue: Catalogue,
        vocabulary: Vocabulary,
        parts: Split,
        impressions: Impressions,
        *,
        candidates: int,
        profiles: pl.DataFrame | None = None,
        most: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            catalogue,
            vocabulary,
            parts.train,
            parts.validation,
            candidates=candidates,
            profiles=profiles,
            most=most,
            seed=seed,
        )
        self._impressions = impressions.only(np.ones(len(impressions.items), bool))
        if not len(self._impressions):
            raise BabelrecError(
                "No impression of the validation part has a click and a candidate that was not clicked. Raise "
                "data.split.validation_fraction."
            )
        asking = pl.Series("user_id", self._impressions.users, pl.String)
        self._asking = UserSample.of(asking, most, seed)
        if self._asking.is_part:
            self._impressions = self._impressions.of(asking.is_in(self._asking.ids.implode()).to_numpy())
        self._asked = impression_requests(self._impressions, parts.train, catalogue, vocabulary, profiles)

    def metrics(self, ranker: CatalogueRanker, ks: tuple[int, ...] = (10,)) -> dict[str, float]:  # type: ignore[override]
        """Those of `HoldOut`, and AUC, MRR and NDCG of the impressions by retrieval alone."""
        retrieval, _ = self._parts(ranker)
        found = impression_metrics(self._impressions, retrieval)
        # Under names different from those of whole lists.
        own = {name.replace("@", "_at_"): float(column.mean()) for name, column in found.items()}
        of_lists = super().metrics(ranker, ks)
        if self._asking.is_part:
            self._state(self._sampling_error(found))
        return of_lists | own

    def _sampling_error(self, found: Mapping[str, npt.NDArray[np.floating]]) -> SamplingError:
        _, users = np.unique(self._impressions.users, return_inverse=True)
        counts = np.bincount(users).astype(np.float64)
        errors = {
            name: standard_error(np.bincount(users, column).astype(np.float64), counts, self._asking.total)
            for name, column in found.items()
        }
        return SamplingError(len(self._asking.users), self._asking.total, errors)

    def blend_data(
        self, ranker: CatalogueRanker
    ) -> tuple[
        npt.NDArray[np.float32],
        npt.NDArray[np.float32],
        Callable[[npt.NDArray[np.floating]], npt.NDArray[np.floating]],
    ]:
        """For E candidates of I impressions: retrieval logits [E], signals [E, signals], and AUC [I] by scores [E]."""
        retrieval, outputs = self._parts(ranker)
        return retrieval, outputs, lambda scores: impression_metrics(self._impressions, scores)[self.blend_metric]

    def _parts(self, ranker: CatalogueRanker) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        return ranker.score_pairs(self._asked, (self._impressions.owners, self._impressions.items))
