"""Forms of users, sessions and tokens."""

from pydantic import Field

from serving.service.api.access.tokens import LONGEST_SECONDS
from serving.service.api.bodies.catalogue import Name, Scalar
from serving.service.api.bodies.recommending import Form, Language
from serving.service.api.identifiers import Id, OptionalId


class UserForm(Form):
    """A profile without its id."""

    languages: list[Language] = Field(
        [], max_length=64, description="BCP 47, the preferred one first.", examples=[["ar", "fr"]]
    )
    country: str = Field("", max_length=2, pattern="^([A-Z]{2})?$", description="ISO 3166-1 alpha-2", examples=["MA"])
    attributes: dict[Name, Scalar] = Field({}, description="Further columns.")


class LinkForm(Form):
    """Who has logged in."""

    user_id: Id = Field(..., description="The user.", examples=["สมชาย"])


class TokenForm(Form):
    """For whom a token is."""

    user_id: OptionalId = Field("", description="The user; empty for somebody not logged in.", examples=["สมชาย"])
    session_id: OptionalId = Field("", description="The visit; empty: a new one.")
    ttl: int = Field(3600, ge=1, le=LONGEST_SECONDS, description="Seconds until it expires.")


class TokenAnswer(Form):
    """A token for a browser."""

    token: str
    expires: int = Field(..., description="Unix seconds.")
    user_id: str
    session_id: str
