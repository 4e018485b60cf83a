"""What a request may say of who asks: categorical features of the query tower, each declared once.

The dataset's columns, the vocabulary, requests and training examples, the tower and the exported graph's lookups
follow this list; the inputs of the signatures (`serving.contract`) have the same names.
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
        name: Of the signatures' input, and of the optional column of ``interactions`` that has it.
        profile_column: Of ``users``: what holds for a user whose request or interaction says nothing.
        profile: Reads one value from it.
        is_language: Known values are those of the items as well, and tags are compared without regard to case; a
            locale that is unknown falls back on its language.
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
    """``user_id``, and ``profile_NAME`` of each feature whose column the dataset's users have."""
    profiles = dataset.users()
    if profiles is None:
        return pl.DataFrame(schema={"user_id": pl.String})
    columns = profiles.collect_schema().names()
    values = [each.profile.alias(each.of_profile) for each in QUERY_FEATURES if each.profile_column in columns]
    return profiles.select("user_id", *values).collect()


def feature_columns(table: pl.DataFrame) -> list[str]:
    """The columns of interactions that are features."""
    return [feature.name for feature in QUERY_FEATURES if feature.name in table.columns]
