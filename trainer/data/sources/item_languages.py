"""The language of each item: from its column, else the setting, else detected, counting doubtful ones."""

import logging
from typing import Any, Final

import polars as pl

from trainer.data.faults import Origin
from trainer.data.languages import UNDETERMINED, detect_with_confidence, normalise
from trainer.data.sources import conversion

_LOG = logging.getLogger(__name__)
_EXAMPLES: Final = 8


def fill_languages(frame: pl.LazyFrame, given: str | None, origin: Origin) -> tuple[pl.LazyFrame, dict[str, Any]]:
    """Fills the column ``language``.

    Args:
        frame: Items with ``item_id``, ``title``, ``description`` and perhaps ``language``.
        given: Language of all items without one; None detects it from title and description.
        origin: Name of the table in error messages.

    Returns:
        The frame, and how the languages were determined: ``from_column``, ``from_setting``, ``detected`` and
        ``doubtful`` (numbers of items), and ``examples`` of doubtful titles as [title, language, probability].
    """
    if "language" in frame.collect_schema():
        frame = conversion.to_tag(frame, "language", origin)
    else:
        frame = frame.with_columns(pl.lit(None, pl.String).alias("language"))
    rows, known = origin.aggregate(frame, rows=pl.len(), known=pl.col("language").count())
    facts: dict[str, Any] = {"from_column": known, "from_setting": 0, "detected": 0, "doubtful": 0, "examples": []}
    if given is not None:
        facts["from_setting"] = rows - known
        return frame.with_columns(pl.col("language").fill_null(normalise(given))), facts
    text = pl.concat_str("title", "description", separator="\n", ignore_nulls=True)
    unknown = frame.filter(pl.col("language").is_null()).select("item_id", "title", text.alias("text"))
    texts = origin.collect(unknown.unique("item_id", keep="first", maintain_order=True))
    if texts.is_empty():
        return frame, facts
    detection = detect_with_confidence(texts["text"].to_list())
    detected = texts.select(
        "item_id",
        "title",
        pl.Series("detected", detection.tags, pl.String),
        pl.Series("confidence", detection.confidence, pl.Float32),
    )
    doubtful = detected.filter(pl.Series(detection.doubtful))
    facts["detected"], facts["doubtful"] = detected.height, doubtful.height
    named = doubtful.filter(pl.col("detected") != UNDETERMINED).sort("confidence", maintain_order=True)
    facts["examples"] = [
        [title[:80], tag, round(confidence, 2)]
        for title, tag, confidence in named.select("title", "detected", "confidence").head(_EXAMPLES).iter_rows()
    ]
    found = detected["detected"].value_counts(sort=True).head(5).rows()
    shown = ", ".join(f"{language} {count:,}" for language, count in found)
    _LOG.info(
        "%s: language of %s items detected (%s); %s are doubtful",
        origin.file,
        f"{detected.height:,}",
        shown,
        f"{doubtful.height:,}",
    )
    filled = frame.join(
        detected.lazy().select("item_id", "detected"), on="item_id", how="left", maintain_order="left"
    ).with_columns(pl.col("language").fill_null(pl.col("detected")).fill_null(UNDETERMINED))
    return filled.drop("detected"), facts
