"""Settings of the exported graph."""

from typing import Literal

from pydantic import Field

from trainer.config.base import Fraction, Settings


class LimitsConfig(Settings):
    """Limits of a request (docs/serving.md): more is cut, or refused with INVALID_ARGUMENT."""

    rows: int = Field(128, ge=1, description="Rows of a request, or of those that a server joins; more are refused.")
    texts: int = Field(4_096, ge=1, description="Texts of one request to `encode_text`; more are refused.")
    k: int = Field(
        1_000, ge=1, description="Items of one row's answer; a request for more of a larger catalogue fails."
    )
    text_bytes: int = Field(2_048, ge=4, description="Bytes of a text that are read, up to the last whole character.")
    history: int = Field(1_000, ge=1, description="Newest items of a history that are read; older ones are ignored.")
    languages: int = Field(64, ge=1, description="Different `languages` of one row; more are refused.")
    categories: int = Field(256, ge=1, description="Different `categories` of one row; more are refused.")
    exclude: int = Field(10_000, ge=1, description="Different items of `exclude` of one row; more are refused.")
    rank_items: int = Field(1_000, ge=1, description="Items of one row that `rank` scores; more are refused.")


class ExportConfig(Settings):
    """The SavedModel that serves."""

    index: Literal["auto", "scann", "brute_force", "portable"] = Field(
        "auto",
        description="`auto`: ScaNN for catalogues above 20,000 items, else exact. `portable`: no other ops than "
        "TensorFlow's own, for the stock `tensorflow/serving` image; partitioned above 20,000 items, else exact.",
    )
    leaves: int | None = Field(
        None, ge=1, description="Partitions; null: about sqrt(items) for ScaNN, 5 sqrt(items) for `portable`."
    )
    leaves_to_search: int | None = Field(
        None, ge=1, description="Partitions searched; null: as many as recall_target takes (ScaNN: at least a tenth)."
    )
    recall_target: Fraction = Field(
        0.99, description="Recall@100 of exact search that a partitioned index is tuned to."
    )
    dimensions_per_block: int = Field(2, ge=1, description="ScaNN asymmetric hashing: dimensions in one code.")
    reorder: int | None = Field(None, ge=1, description="Candidates rescored exactly by ScaNN.")
    candidates: int = Field(200, ge=1, description="Items that retrieval hands to ranking.")
    exact_limit: int = Field(
        20_000, ge=1, description="Filters that let through at most so many items are answered by exact search."
    )
    user_histories: bool = Field(True, description="Keep known users' histories in the graph, so that an id suffices.")
    text_table: Literal["float", "quantized"] = "quantized"
    limits: LimitsConfig = LimitsConfig()
