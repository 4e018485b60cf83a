"""Settings of `evaluate`."""

from typing import Annotated

from pydantic import Field

from trainer.config.base import Settings


class PrequentialConfig(Settings):
    """Settings of the evaluation window by window (`--protocol p5`; docs/evaluation.md)."""

    windows: int = Field(10, ge=2, description="Number of windows with equally many events.")
    first_share: float = Field(0.3, gt=0.0, lt=1.0, description="Share of the events before the first window.")
    positives: int | None = Field(
        None, ge=1, description="Maximum number of positives to evaluate in each window, drawn at random; null: all."
    )


class EvaluationConfig(Settings):
    """Settings of `evaluate`."""

    ks: list[Annotated[int, Field(ge=1)]] = Field([10, 20], min_length=1, description="Cut-offs of the metrics.")
    metrics: list[str] = Field(
        [], description="Import paths (`package.module:NAME`) of your own ranking metrics (docs/extending.md)."
    )
    users: int | None = Field(
        10_000,
        ge=2,
        description="Maximum number of users to evaluate. If there are more, as many are drawn at random by `seed`, "
        "and the report states the standard error that this causes; null: all.",
    )
    bootstrap_samples: int = Field(1000, ge=10, description="Resamples of the users for 95 % intervals.")
    prequential: PrequentialConfig = PrequentialConfig()
