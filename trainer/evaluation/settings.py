"""Settings of `evaluate`."""

from typing import Annotated

from pydantic import Field

from trainer.config.base import Settings


class EvaluationConfig(Settings):
    """Settings of `evaluate`."""

    ks: list[Annotated[int, Field(ge=1)]] = Field([10, 20], min_length=1, description="Cut-offs of the metrics.")
    metrics: list[str] = Field(
        [], description="Import paths (`package.module:NAME`) of your own ranking metrics (docs/extending.md)."
    )
    bootstrap_samples: int = Field(1000, ge=10, description="Resamples of the users for 95 % intervals.")
