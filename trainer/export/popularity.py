"""Popularity by audience: the response to a request with only a language."""

import numpy as np
import numpy.typing as npt
import polars as pl

from trainer.data.catalogue import Catalogue
from trainer.data.dataset import Dataset
from trainer.data.ids import as_text
from trainer.data.split import Split

# Number of prior events, distributed like everybody's, that are added to each language's counts, so that a small
# audience doesn't get a random list.
_PRIOR_EVENTS = 50.0


def popularity_by_audience(
    dataset: Dataset, catalogue: Catalogue, parts: Split
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Popularity of each item among the audience of each language.

    An event belongs to the language of its interaction, else to its user's languages, else (if
    the user's languages are unknown) to the item's language.

    Args:
        dataset: Provides the users' languages.
        catalogue: N items.
        parts: The split; only its training part is read.

    Returns:
        ``(languages, shares)``: P - 1 languages, and float32 [P, N] shares, whose row 0 is everybody's.
        A row is (own counts + 50 * everybody's shares) / (own events + 50).
    """
    positives = parts.train
    rows = catalogue.rows(positives["item_id"])
    everybody = np.bincount(rows, minlength=len(catalogue)).astype(np.float64)
    everybody /= max(everybody.sum(), 1.0)
    counts: dict[str, npt.NDArray[np.float64]] = {}
    table = positives.select("user_id", "item_id").with_columns(
        row=pl.Series(rows), item_language=pl.Series([catalogue.languages[row] for row in rows], dtype=pl.String)
    )
    table = table.join(_known_languages(dataset, parts.observed), on="user_id", how="left").with_columns(
        audience=pl.coalesce("user_languages", pl.concat_list("item_language"))
    )
    grouped = table.explode("audience").drop_nulls("audience").group_by("audience", "row").len()
    for (language,), part in grouped.group_by("audience"):
        line = counts.setdefault(str(language), np.zeros(len(catalogue)))
        line[part["row"].to_numpy()] += part["len"].to_numpy()
    languages = sorted(counts)
    lines = [everybody]
    for language in languages:
        line = counts[language]
        lines.append((line + _PRIOR_EVENTS * everybody) / (line.sum() + _PRIOR_EVENTS))
    return languages, np.stack(lines).astype(np.float32)


def _known_languages(dataset: Dataset, observed: pl.DataFrame) -> pl.DataFrame:
    """user_id -> user_languages: from the user's interactions, else from the profile."""
    empty = pl.DataFrame(schema={"user_id": pl.String, "user_languages": pl.List(pl.String)})
    tables = []
    if "language" in observed.columns:
        tables.append(
            as_text(observed.filter(pl.col("language").is_not_null()))
            .group_by("user_id")
            .agg(pl.col("language").unique().sort().alias("user_languages"))
        )
    profiles = dataset.users()
    if profiles is not None and "languages" in profiles.collect_schema().names():
        tables.append(
            profiles.filter(pl.col("languages").list.len() > 0)
            .select("user_id", pl.col("languages").alias("user_languages"))
            .collect()
        )
    return pl.concat([empty, *tables]).unique("user_id", keep="first", maintain_order=True)
