"""Small random ranking problems for hypothesis."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from trainer.evaluation.metrics.item_sets import ItemSets


@dataclass(frozen=True)
class Problem:
    """Scores with many ties, some -inf; disjoint training and test items."""

    scores: npt.NDArray[np.floating]
    train: list[set[int]]
    test: list[set[int]]

    @property
    def num_items(self) -> int:
        return int(self.scores.shape[1])

    def train_sets(self) -> ItemSets:
        return ItemSets.from_lists([list(row) for row in self.train], num_items=self.num_items)

    def test_sets(self) -> ItemSets:
        return ItemSets.from_lists([list(row) for row in self.test], num_items=self.num_items)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    num_users, num_items = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    value = st.sampled_from([-float("inf"), -1.5, -0.0, 0.0, 0.25, 0.5, 3.0])
    scores = [[draw(value) for _ in range(num_items)] for _ in range(num_users)]
    train, test = [], []
    for _ in range(num_users):
        part = [draw(st.sampled_from(["train", "test", "neither"])) for _ in range(num_items)]
        train.append({item for item in range(num_items) if part[item] == "train"})
        test.append({item for item in range(num_items) if part[item] == "test"})
    return Problem(np.array(scores, dtype=draw(st.sampled_from([np.float32, np.float64]))), train, test)
