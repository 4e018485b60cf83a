"""Base of all settings sections."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of all sections: unknown keys are refused, values are not coerced across types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)


# Strict mode refuses a str for a Path and an int for a float; YAML has no other way to write them.
# Paths are made absolute, so that a run's own config means the same from any directory.
AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(lambda path: path.expanduser().absolute())]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
