"""Settings of the exported graph."""

from typing import Literal

from pydantic import Field

from trainer.config.base import Fraction, Settings


class LimitsConfig(Settings):
    """Limits of a request (docs/serving.md): more is cut, or refused with INVALID_ARGUMENT."""

    rows: int = Field(128, ge=1, description="Rows of a request, or of a batch that a server forms; more are refused.")
    texts: int = Field(4_096, ge=1, description="Texts of one request to `encode_text`; more are refused.")
    k: int = Field(
        1_000, ge=1, description="Largest `k` of a request; more is refused if the catalogue has more items."
    )
    text_bytes: int = Field(2_048, ge=4, description="Bytes of a text that are used, cut at a character boundary.")
    history: int = Field(
        1_000, ge=1, description="Most recent items of a history that are used; older ones are ignored."
    )
    languages: int = Field(64, ge=1, description="Distinct `languages` per row; more are refused.")
    categories: int = Field(256, ge=1, description="Distinct `categories` per row; more are refused.")
    exclude: int = Field(10_000, ge=1, description="Distinct items of `exclude` per row; more are refused.")
    rank_items: int = Field(1_000, ge=1, description="Items per row of `rank`; more are refused.")


class ExportConfig(Settings):
    """The SavedModel that serves."""

    index: Literal["auto", "scann", "brute_force", "portable"] = Field(
        "auto",
        description="`auto`: ScaNN for catalogues above 20,000 items, else exact. `portable`: only TensorFlow's own "
        "ops, for the stock `tensorflow/serving` image; partitioned above 20,000 items, else exact.",
    )
    leaves: int | None = Field(
        None, ge=1, description="Partitions; null: about sqrt(items) for ScaNN, 5 sqrt(items) for `portable`."
    )
    leaves_to_search: int | None = Field(
        None, ge=1, description="Partitions searched; null: as many as recall_target needs (ScaNN: at least a tenth)."
    )
    recall_target: Fraction = Field(
        0.99, description="Recall@100, relative to exact search, that a partitioned index is tuned to."
    )
    dimensions_per_block: int = Field(2, ge=1, description="Dimensions per code of ScaNN's asymmetric hashing.")
    reorder: int | None = Field(
        None, ge=1, description="Candidates rescored exactly by ScaNN; null: as many as recall_target needs."
    )
    candidates: int = Field(200, ge=1, description="Number of items that retrieval passes to ranking.")
    exact_limit: int = Field(
        20_000, ge=1, description="Filters that allow at most this many items are answered by exact search."
    )
    user_histories: bool = Field(
        True, description="Store known users' histories in the graph, so that requests need only a user id."
    )
    fresh_items: bool = Field(
        True, description="Export the signatures by which a service adds items later (docs/service.md)."
    )
    text_table: Literal["float", "quantized"] = Field(
        "quantized",
        description="Token table of the exported encoder: `quantized` has 81 MB, `float` 268 (docs/encoder.md).",
    )
    shards: int = Field(
        1,
        ge=1,
        le=1_000,
        description="Number of models that the items are divided among, by a hash of the id, for catalogues that one "
        "machine can't hold (docs/scale_index.md).",
    )
    items_per_file: int = Field(
        100_000, ge=1, description="Largest number of items of a file of `export-vectors` (docs/scale_index.md)."
    )
    limits: LimitsConfig = LimitsConfig()
