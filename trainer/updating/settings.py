"""Settings of `update` and `loop` (docs/updating.md)."""

from typing import Literal

from pydantic import Field

from trainer.config.base import Fraction, Settings


class GateConfig(Settings):
    """What a challenger must show before it replaces the champion."""

    positives: int = Field(
        2_000, ge=1, description="Newest positives to compare on; neither model has learned from them, or later ones."
    )
    share: float = Field(0.25, gt=0.0, lt=1.0, description="Largest share of the new positives that is kept for that.")
    least: int = Field(100, ge=1, description="With fewer positives to compare on there is no update.")
    metric: Literal["ndcg@10", "recall@10"] = Field("ndcg@10", description="Metric that decides, a mean over people.")
    margin: Fraction = Field(
        0.15,
        description="Share of the champion's value that may be lost. The challenger fails if it loses more and is "
        "worse for sure: if the interval of the paired differences is below 0. Wide, since the events come from the "
        "champion's lists, and a roll-out follows.",
    )
    slice_margin: Fraction = Field(
        0.3, description="The same for each item language, people's language, and cold and warm items."
    )
    slice_least: int = Field(30, ge=1, description="People that a slice needs to count.")
    coverage: Fraction = Field(
        0.8, description="Least share of the champion's coverage: how many different items the lists show."
    )
    calibration: float = Field(
        0.1, ge=0.0, description="Largest growth of a head's log loss, as a share of the champion's."
    )
    lost: Fraction = Field(
        0.5,
        description="Largest share of a language that may be missing from the new data, compared with the data before: "
        "of its items, and of the events of people who read it.",
    )
    fallen: Fraction = Field(
        0.5,
        description="Largest share by which the champion itself may be worse on the new events than it was when it was "
        "promoted: more means that something is wrong with the events.",
    )
    copies: Fraction = Field(
        0.05, description="Largest growth of the share of items that have the text and language of another item."
    )

    def kept(self, new: int) -> int:
        """How many of so many new positives are kept to compare on."""
        return min(self.positives, int(self.share * new))


class UpdateConfig(Settings):
    """An update: the champion learns on from new events."""

    epochs: int = Field(3, ge=1, description="Epochs over new events and replayed old ones.")
    rate: float = Field(1.0, gt=0.0, description="Factor of `training.learning_rate`.")
    replay: float | None = Field(
        None,
        ge=0.0,
        description="Old positives to learn from again, for each new one; null: all of them.",
    )
    days: int | None = Field(None, ge=1, description="Older interactions are left out; null: none are.")
    gate: GateConfig = GateConfig()
