"""A sample of the users, when there are more than the metrics need, and the error that it causes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ConfigDict


@dataclass(frozen=True, slots=True, eq=False)
class UserSample:
    """The users that are evaluated.

    Attributes:
        users: their ids, sorted.
        total: number of users that it was drawn from.
    """

    users: list[str]
    total: int

    @classmethod
    def of(cls, users: pl.Series, most: int | None, seed: int) -> Self:
        """All users, or ``most`` of them drawn without replacement.

        Args:
            users: ids, in any order; repeated ones count once.
            most: maximum number; None: no limit.
            seed: of the draw, which depends on nothing else than the ids.
        """
        known = users.unique().sort()
        if most is None or known.len() <= most:
            return cls(known.to_list(), known.len())
        drawn = np.random.default_rng(seed).choice(known.len(), most, replace=False)
        return cls(known[np.sort(drawn)].to_list(), known.len())

    @property
    def is_part(self) -> bool:
        """Whether users were left out."""
        return len(self.users) < self.total

    @property
    def ids(self) -> pl.Series:
        """The users as a column ``user_id``."""
        return pl.Series("user_id", self.users, pl.String)

    def of_table(self, table: pl.DataFrame) -> pl.DataFrame:
        """The rows of a table whose ``user_id`` is in the sample, in their order."""
        if not self.is_part:
            return table
        return table.join(self.ids.to_frame(), on="user_id", how="semi", maintain_order="left")


@dataclass(frozen=True, slots=True)
class SamplingError:
    """What evaluating a sample of the users costs in precision.

    Attributes:
        users: number of users drawn.
        of: number of users there are.
        standard_error: metric -> standard error of its mean as an estimate of that over all users.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    users: int
    of: int
    standard_error: dict[str, float]

    @classmethod
    def of_values(cls, sample: UserSample, values: Mapping[str, NDArray[np.floating]]) -> Self:
        """From each metric of each user of the sample, float [n], NaN where there is none."""
        errors = {
            name: standard_error(np.nan_to_num(column), np.isfinite(column).astype(np.float64), sample.total)
            for name, column in values.items()
        }
        return cls(
            len(sample.users), sample.total, {name: each for name, each in errors.items() if math.isfinite(each)}
        )


def standard_error(sums: NDArray[np.floating], counts: NDArray[np.floating], total: int) -> float:
    """Standard error of a mean over the sample as an estimate of that over all users.

    The mean is a ratio of totals, so that users may have several values. It is sqrt(1 - n / N) / c * sqrt(s / n), with
    s the sum of (y_u - mean * m_u)^2 over n - 1, for n drawn users of N with m_u values that add up to y_u, and c the
    mean of m_u (Cochran, Sampling Techniques, 1977, eq. 6.13). With one value each it is that of simple random
    sampling (eq. 2.20).

    Args:
        sums: [n], y.
        counts: [n], m; users without any value are ignored.
        total: N.

    Returns:
        0 if everybody was drawn, NaN for fewer than two users.
    """
    known = counts > 0
    size = int(known.sum())
    if size < 2:
        return math.nan
    y, m = sums[known].astype(np.float64), counts[known].astype(np.float64)
    residuals = y - y.sum() / m.sum() * m
    left_out = max(0.0, 1.0 - size / total)
    return math.sqrt(left_out * float(residuals @ residuals) / (size - 1) / size) / float(m.mean())
