"""Settings of the model: towers, retrieval, ranking, text search and the linear model."""

import logging
from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.config.base import Fraction, Settings

_LOG = logging.getLogger(__name__)


class QueryTowerConfig(Settings):
    """Features of the query tower; an absent feature is masked, never imputed."""

    user_id: bool = Field(True, description="Learn a vector for each known user.")
    user_dropout: Fraction = Field(0.5, description="Share of training queries whose user id is hidden.")
    history_length: int = Field(50, ge=1, description="Number of most recent history items used.")
    history_dropout: Fraction = Field(0.1, description="Share of history items hidden in training.")
    time: bool = Field(False, description="Use the hour of day, day of week and season of the request.")
    feature_dropout: Fraction = Field(0.2, description="Probability of hiding language, country or time in training.")


class NeighboursConfig(Settings):
    """Items without a learned vector get one from known items with similar content (docs/crosslingual.md)."""

    enabled: bool = Field(False, description="Use neighbours for items that training has not seen.")
    temperature: float = Field(
        0.15, gt=0.0, description="Temperature of the softmax over known items; a low one keeps only the nearest."
    )
    nearest: int = Field(128, ge=1, description="Number of known items that an item is placed among.")
    category_weight: float = Field(
        0.1, ge=0.0, description="Weight of the cosine similarity of categories, relative to that of texts."
    )
    year_column: str = Field("year", description="Numeric column with an item's year.")
    year_weight: float = Field(0.03, ge=0.0, description="Similarity subtracted for each year between two items.")
    year_limit: float = Field(5.0, ge=0.0, description="Maximum number of years subtracted for.")


class CandidateTowerConfig(Settings):
    """Features of the candidate tower."""

    item_id: bool = Field(True, description="Learn a vector for each known item.")
    id_dropout: Fraction = Field(
        0.3, description="Share of training items whose id is hidden, so that cold items are placed by content."
    )
    language: bool = Field(True, description="Learn a vector for each item language.")
    categories: bool = Field(True, description="Use category labels: a learned vector and the label's text.")
    numeric: list[str] | None = Field(None, description="Numeric item columns to use; null: all.")
    numeric_bins: int = Field(8, ge=2, description="Quantile bins of the piecewise linear encoding of numbers.")
    embeddings: list[str] | None = Field(None, description="Embedding columns to use; null: all.")
    feature_dropout: Fraction = Field(
        0.2, description="Probability of hiding an item's text, categories or numbers in training."
    )
    text_noise: float = Field(0.7, ge=0.0, description="Norm of the noise added to a unit text vector in training.")
    popularity: bool = Field(
        False,
        description="Add the logarithm of an item's training positives to its retrieval score; an unknown item has "
        "its neighbours' mean.",
    )
    neighbours: NeighboursConfig = NeighboursConfig()
    language_affinity: int = Field(
        0,
        ge=0,
        description="Rank of the language affinity learned from co-consumption (docs/crosslingual.md); 0 disables it.",
    )


class ConversionConfig(Settings):
    """A residual map of sentence vectors from each language to one (docs/crosslingual.md)."""

    bottleneck: int | None = Field(None, ge=1, description="Rank of the residual map; null disables conversion.")
    pivot: str = Field("en", min_length=1, description="Target language.")
    start: Literal["identity", "procrustes"] = Field(
        "identity",
        description="Initial map; `procrustes`: rotations fitted to the pairs of `training.alignment`, truncated to "
        "the rank.",
    )
    anchor: float = Field(
        1.0, gt=0.0, description="Regularisation of those rotations towards the identity, in pairs of texts."
    )

    @property
    def rotates(self) -> bool:
        """Whether it starts from rotations."""
        return self.bottleneck is not None and self.start == "procrustes"


class RetrievalConfig(Settings):
    """In-batch softmax with logQ correction (Yi et al., 2019, doi 10.1145/3298689.3346996), or a full one."""

    loss_weight: float = Field(1.0, ge=0.0, description="Weight of the retrieval loss.")
    softmax: Literal["sampled", "full"] = Field(
        "sampled",
        description="`full`: over all training items; exact, and as fast for up to a few thousand items.",
    )
    similarity: Literal["dot", "cosine"] = Field(
        "dot",
        description="`cosine` normalises the vectors of both towers; it needs a lower temperature, about 0.1.",
    )
    temperature: float = Field(1.0, gt=0.0, description="Temperature of the softmax.")
    log_q_correction: bool = Field(True, description="Correct sampled negatives for their frequency.")
    uniform_negatives: int = Field(
        512, ge=0, description="Uniformly sampled negatives shared by a batch (mixed negative sampling)."
    )
    hard_negatives: int | None = Field(
        None, ge=1, description="Keep only this many of the highest-scored negatives; null: all."
    )

    @model_validator(mode="after")
    def _sampled_alone(self) -> "RetrievalConfig":
        if self.softmax == "full" and self.hard_negatives is not None:
            raise ValueError("hard_negatives belongs to softmax: sampled; leave it out, or set softmax to sampled")
        return self


class TransitionsConfig(Settings):
    """What is chosen after what, as a signal of the ranking stage (docs/model.md)."""

    successors: int = Field(
        0, ge=0, description="Number of items kept that followed each item most; 0 disables the signal."
    )
    window: int = Field(20, ge=1, description="Number of a user's next items that an item counts as followed by.")
    history: int = Field(10, ge=1, description="Number of a history's newest items that are looked at.")


class RankingConfig(Settings):
    """Ranking heads over a DCN-v2 cross network (Wang et al., 2021, arXiv 2008.13535)."""

    loss_weight: float = Field(0.2, ge=0.0, description="Weight of the ranking loss.")
    cross_layers: int = Field(2, ge=1, description="Number of cross layers.")
    hidden: list[Annotated[int, Field(ge=1)]] = Field([64], description="Sizes of the dense layers.")
    negatives: int = Field(8, ge=1, description="Sampled negatives for each positive.")
    transitions: TransitionsConfig = TransitionsConfig()
    blend: dict[str, float] | None = Field(
        None,
        description="Weight of each head, and of `transitions`, in the final score, in addition to `retrieval`; null: "
        "chosen on validation.",
    )


class SearchConfig(Settings):
    """Text search: meaning, spelling, popularity and categories (docs/search.md).

    The best weight of each list is chosen on the validation part; without one, the first is used.
    """

    enabled: bool = Field(True, description="Answer text queries by text search; false leaves them to the towers.")
    dimension: int = Field(256, ge=1, description="Number of principal components of the sentence vectors to keep.")
    category_weights: list[Annotated[float, Field(ge=0.0)]] = Field(
        [1.0, 0.5, 0.0, 2.0],
        min_length=1,
        description="Weights of the similarity to an item's categories; similarity to its text has weight 1.",
    )
    lexical_weights: list[Annotated[float, Field(ge=0.0)]] = Field(
        [0.4, 0.2], min_length=1, description="Weights of the squared share of the query's n-grams in the item's text."
    )
    popularity_weights: list[Annotated[float, Field(ge=0.0)]] = Field(
        [0.05, 0.0, 0.02, 0.1],
        min_length=1,
        description="Weights of popularity, in standard deviations of its logarithm.",
    )
    tower_weights: list[Annotated[float, Field(ge=0.0)]] = Field(
        [0.1, 0.0, 0.2], min_length=1, description="Maximum amounts by which the towers change an item's score."
    )
    queries: int = Field(
        500, ge=1, description="Maximum number of held-out positives used to generate validation queries."
    )


class LinearConfig(Settings):
    """A linear item-item model added to the towers (EASE, Steck, 2019, arXiv 1905.03375; docs/model.md)."""

    rank: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description="Rank of the linear model; 0 disables it. `auto`: an eighth of the number of known users or items, "
        "128 to 512, for up to 6,000 known items, and 0 above. A rank for more items is solved for approximately.",
    )
    regularization: float | None = Field(
        None,
        gt=0.0,
        description="L2 regularisation, in positives per item; null: the best of 30, 100, 300, 1,000 and 3,000 on the "
        "validation part (above 2,500 items, of the middle three; above 6,000, by 1,000 users), or 300 without one.",
    )
    factors: list[Annotated[float, Field(ge=0.0)]] = Field(
        [0.3, 0.0, 0.15, 0.5, 0.8, 1.2, 2.0, 4.0, 8.0, 16.0],
        min_length=1,
        description="Candidate weights of its standardised score; the best is chosen on the validation part after the "
        "towers are trained. Without a validation part, the first.",
    )
    new_items: float = Field(
        1.0,
        gt=0.0,
        description="With `model.candidate.neighbours`: scale of new items' scores relative to known items'; higher "
        "values recommend more new items.",
    )


class ContentConfig(Settings):
    """Similarity of an item's text and categories to the history's, added to the towers (docs/model.md)."""

    enabled: bool = Field(
        False,
        description="Add content similarity, which ranks items similar to recent ones first; vectors get 1,024 more "
        "dimensions, with `metric: users` 512 + `metric_rank`. For catalogues with little training data.",
    )
    metric: Literal["cosine", "users"] = Field(
        "cosine",
        description="How texts are compared; `users`: by the directions of the sentence vectors in which the items of "
        "one user are alike, learned from the training positives in closed form (docs/model.md).",
    )
    metric_rank: int = Field(128, ge=1, description="With `metric: users`: number of directions kept.")
    metric_shrinkage: float = Field(
        3.0,
        gt=0.0,
        description="With `metric: users`: how much every direction counts whatever its users say, in units of the "
        "texts' mean variance; higher for few positives.",
    )
    factors: list[Annotated[float, Field(ge=0.0)]] = Field(
        [1.0, 0.0, 2.0, 4.0, 8.0, 16.0],
        min_length=1,
        description="Candidate weights of the similarity; the best is chosen on the validation part after the rest is "
        "trained. Without a validation part, the first.",
    )
    category_weight: float = Field(
        0.5, ge=0.0, description="Norm of the category vector, relative to the text vector's of 1."
    )
    recency: float = Field(
        1.0, ge=0.0, description="A history item followed by n newer ones has weight (1 + n)^-recency."
    )


class ModelConfig(Settings):
    """The two towers, the retrieval task and the ranking task."""

    dimension: int = Field(64, ge=2, description="Size of the towers' vectors.")
    query: QueryTowerConfig = QueryTowerConfig()
    candidate: CandidateTowerConfig = CandidateTowerConfig()
    conversion: ConversionConfig = ConversionConfig()
    linear: LinearConfig = LinearConfig()
    content: ContentConfig = ContentConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    ranking: RankingConfig = RankingConfig()
    text_queries: Fraction = Field(
        0.2, description="Share of training queries replaced by the item's title or category names as text."
    )
    text_queries_by_category: Fraction = Field(
        0.5, description="Share of those that use a category name instead of the title."
    )
    search: SearchConfig = SearchConfig()

    @model_validator(mode="before")
    @classmethod
    def _wishes(cls, value: object) -> object:
        """Ignores ``wishes`` in settings of earlier versions; ``search`` has replaced it."""
        if not isinstance(value, dict) or "wishes" not in value:
            return value
        _LOG.warning("model.wishes has been removed: text queries are answered by model.search (docs/search.md).")
        return {key: each for key, each in value.items() if key != "wishes"}
