"""The ranking heads' raw outputs and the observed labels for held-out events, positive or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.heads import Head, label_table
from trainer.data.requests import Requests
from trainer.data.split import Split, held_out_events
from trainer.data.vocabulary import Vocabulary, index_of
from trainer.evaluation.sampling import UserSample
from trainer.models.ranker import CatalogueRanker


@dataclass(frozen=True, slots=True, eq=False)
class HeadEvents:
    """E user-item pairs with the heads' outputs and the observed labels.

    Attributes:
        users: Int [E], an index for each user.
        outputs: Float32 [E, heads], raw.
        labels: Float32 [E, heads]; NaN if a head has no label for the pair.
    """

    users: npt.NDArray[np.integer]
    outputs: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SampledEvents:
    """Held-out events of some users, or of all, and what came before.

    Attributes:
        events: As from `trainer.data.split.held_out_events`.
        history: Positives before the test part, at least of the users of ``events``: user_id, item_id, timestamp.
    """

    events: pl.DataFrame
    history: pl.DataFrame


def sampled_events(
    dataset: Dataset,
    parts: Split,
    part: Literal["validation", "test"],
    history: pl.DataFrame,
    sample: UserSample,
    most: int | None,
    seed: int,
) -> SampledEvents:
    """A held-out part's events of all users, or of a sample if that of the ranking is one.

    Args:
        dataset: The data.
        parts: Its split.
        part: Which part.
        history: Positives before it.
        sample: Users of the ranking, who have a positive in the part.
        most: Maximum number of users.
        seed: Of the draw.
    """
    if not sample.is_part:
        return SampledEvents(held_out_events(dataset, parts, part), history)
    if parts.kind == "global":
        # Users without a positive have labels too.
        begin, end = getattr(parts, part)["timestamp"].min(), parts.test["timestamp"].min()
        during = pl.col("timestamp") >= begin
        if part == "validation" and end is not None:
            during &= pl.col("timestamp") < end
        active = dataset.interactions().filter(during).select(pl.col("user_id").unique())
        sample = UserSample.of(active.collect(engine="streaming")["user_id"], most, seed)
    return SampledEvents(held_out_events(dataset, parts, part, sample.ids), sample.of_table(history))


def head_events(
    ranker: CatalogueRanker,
    catalogue: Catalogue,
    vocabulary: Vocabulary,
    heads: Sequence[Head],
    history: pl.DataFrame,
    events: pl.DataFrame,
    profiles: pl.DataFrame | None = None,
) -> HeadEvents:
    """Scores every pair of ``events`` as in serving: by user id and the history before the held-out period.

    Args:
        ranker: Ranker of the evaluated model.
        catalogue: N items.
        vocabulary: The users known to the model.
        heads: Heads of the model, in its order.
        history: Positives before the period: user_id, item_id, timestamp.
        events: From `trainer.data.split.held_out_events`.
        profiles: From `trainer.data.query_features.user_profiles`.
    """
    table = label_table(events, list(heads))
    users = sorted(table["user_id"].unique())
    place = index_of(users)
    who = np.array([place[user] - 1 for user in table["user_id"]], np.int32)
    requests = Requests.of_users(users, history, catalogue, vocabulary, profiles=profiles, moments=events)
    _, outputs = ranker.score_pairs(requests, (who, catalogue.rows(table["item_id"])))
    labels = table.select(f"label_{head.name}" for head in heads).to_numpy().astype(np.float32)
    return HeadEvents(who, outputs[:, : len(heads)], labels.reshape(table.height, len(heads)))
