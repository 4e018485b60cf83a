"""Forms of roll-outs."""

from typing import Any

from pydantic import ConfigDict, Field

from serving.service.api.bodies.recommending import Form


class NewRollout(Form):
    """A version of the model that is to be tried."""

    model_config = ConfigDict(json_schema_extra={"example": {"stable": 3, "canary": 4, "report": {"gate": "passed"}}})

    stable: int = Field(..., ge=1, lt=2**63, description="The version that is served.")
    canary: int = Field(..., ge=1, lt=2**63, description="The version that is to be tried.")
    report: dict[str, Any] = Field({}, description="Kept with it, such as that of the gate.")


class Verdict(Form):
    """Why somebody decides by hand."""

    model_config = ConfigDict(json_schema_extra={"example": {"reason": "고객이 불평한다"}})

    reason: str = Field(..., min_length=1, max_length=500, description="For the log.")
