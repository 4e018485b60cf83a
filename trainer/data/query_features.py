"""Categorical features of a request, for the query tower, each declared once.

The dataset's columns, the vocabulary, requests and training examples, the tower and the exported graph's lookups
are derived from this list; the inputs of the signatures (`serving.contract`) have the same names.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from trainer.data.dataset import Dataset


@dataclass(frozen=True, slots=True)
class QueryFeature:
    """A categorical feature of a request.

    Attributes:
        name: Name of the signatures' input and of the optional column of ``interactions``.
        profile_column: Column of ``users`` with the value for requests and interactions without one.
        profile: Reads one value from that column.
        is_language: Whether the values are language tags: the items' languages are known values too, case is ignored,
            and an unknown locale falls back to its language.
    """

    name: str
    profile_column: str
    profile: pl.Expr
    is_language: bool = False

    @property
    def of_profile(self) -> str:
        """Name of its column in `user_profiles`."""
        return f"profile_{self.name}"


QUERY_FEATURES: Final = (
    QueryFeature("language", "languages", pl.col("languages").list.first(), is_language=True),
    QueryFeature("country", "country", pl.col("country")),
)


def user_profiles(dataset: "Dataset") -> pl.DataFrame:
    """``user_id``, and ``profile_NAME`` for each feature with a column in the users table."""
    profiles = dataset.users()
    if profiles is None:
        return pl.DataFrame(schema={"user_id": pl.String})
    columns = profiles.collect_schema().names()
    values = [each.profile.alias(each.of_profile) for each in QUERY_FEATURES if each.profile_column in columns]
    return profiles.select("user_id", *values).collect()


def feature_columns(table: pl.DataFrame) -> list[str]:
    """The columns of interactions that are features."""
    return [feature.name for feature in QUERY_FEATURES if feature.name in table.columns]
