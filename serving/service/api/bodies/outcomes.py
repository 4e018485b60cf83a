"""Forms of short answers."""

import msgspec

from serving.service.recommendation import RecommendationResponse
from serving.service.rules import LintWarning


class Revisions(msgspec.Struct):
    """Which items were changed.

    Attributes:
        revisions: Item -> its new revision; without those that are the same as before.
    """

    revisions: dict[str, int]


class DeletedItems(msgspec.Struct):
    """Which items were deleted.

    Attributes:
        deleted: Item -> whether there was one.
    """

    deleted: dict[str, bool]


class DeletedUser(msgspec.Struct):
    """Whether a person was erased.

    Attributes:
        deleted: Whether anything was kept about the person.
    """

    deleted: bool


class Link(msgspec.Struct):
    """A session and its user.

    Attributes:
        session_id: The visit.
        user_id: The user.
    """

    session_id: str
    user_id: str


class NewRules(msgspec.Struct):
    """What became of new rules.

    Attributes:
        revision: Their number.
        warnings: Rules that are valid and do nothing.
    """

    revision: int
    warnings: list[LintWarning]


class RulesEffect(msgspec.Struct):
    """What new rules would change in one answer.

    Attributes:
        before: The answer by the stored rules.
        after: The answer by the new ones.
    """

    before: RecommendationResponse
    after: RecommendationResponse


class RulesPreview(msgspec.Struct):
    """What new rules would do.

    Attributes:
        effects: One for each request.
        warnings: Rules that are valid and do nothing.
    """

    effects: list[RulesEffect]
    warnings: list[LintWarning]


class Health(msgspec.Struct):
    """Whether the process works.

    Attributes:
        healthy: False: restart it.
    """

    healthy: bool


class Readiness(msgspec.Struct):
    """Whether requests should be sent here.

    Attributes:
        ready: All in all.
        store: Whether the database answers.
        draining: Whether the service is about to stop.
        degraded: Whether popular items stand in for the model's.
        model_version: That answers; 0: none does.
    """

    ready: bool
    store: bool
    draining: bool
    degraded: bool
    model_version: int
