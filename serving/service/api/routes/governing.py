"""Business rules and the log of what administrators did."""

import asyncio
from collections.abc import Collection
from http import HTTPStatus
from typing import Annotated, Any, Final

from anyio import from_thread
from fastapi import APIRouter, Depends, Query, Request, Response

from serving.service.api.access.principals import Permission, Principal
from serving.service.api.bodies.answers import form_of
from serving.service.api.bodies.outcomes import NewRules, RulesEffect, RulesPreview
from serving.service.api.bodies.recommending import RulesPreviewForm, request_of
from serving.service.api.context import context_of
from serving.service.api.problems import ProblemError
from serving.service.api.routes.common import Requires, answer, audit
from serving.service.rules import Rules, columns_of, lint, parse_rules
from serving.service.store import AuditEntry, Store

router = APIRouter(prefix="/v1", tags=["Rules and log"])
_YAML: Final = "application/yaml"
_Reader = Annotated[Principal, Depends(Requires(Permission.READ))]
_Manager = Annotated[Principal, Depends(Requires(Permission.MANAGE))]
_EXAMPLE: Final = """rules:
  - name: our own first
    kind: boost
    where: {seller: {equals: 岩手商店}}
    multiply: 1.2
"""
_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {_YAML: {"schema": {"type": "string"}, "example": _EXAMPLE}}}
}
# A misspelt column is looked for among so many items.
_MOST_ITEMS: Final = 100_000


async def _body(request: Request) -> bytes:
    return await request.body()


@router.get("/rules", responses={200: {"content": {_YAML: {"example": _EXAMPLE}}}})
def get_rules(reader: _Reader, request: Request) -> Response:
    """The rules in YAML; `ETag` is their revision."""
    text, revision = context_of(request).store.rules()
    return Response(text, media_type=_YAML, headers={"ETag": f'"{revision}"'})


@router.put("/rules", response_model=form_of(NewRules), openapi_extra=_BODY)
def put_rules(
    manager: _Manager,
    request: Request,
    body: Annotated[bytes, Depends(_body)],
) -> Response:
    """Replaces the rules; answers their revision, and warnings about rules that do nothing.

    With the header `If-Match` only if it names the current revision.
    """
    context = context_of(request)
    if context.options.rules is not None:
        raise ProblemError(
            HTTPStatus.CONFLICT, "The rules are those of a file. Remedy: change it, or leave --rules out."
        )
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "The body is not UTF-8. Remedy: send YAML in UTF-8.") from None
    rules = parse_rules(text)
    expected = request.headers.get("if-match")
    current = context.store.rules()[1]
    if expected is not None and expected.strip('"') != str(current):
        raise ProblemError(
            HTTPStatus.PRECONDITION_FAILED,
            f"The rules have the revision {current} by now. Remedy: read them, and change those.",
        )
    warnings = lint(rules, _columns(rules, context.store))
    revision = context.store.put_rules(text, manager.key)
    from_thread.run(context.recommender.rules_changed)
    audit(request, manager, "put rules", f"revision {revision}")
    return answer(NewRules(revision, list(warnings)))


@router.post("/rules/preview", response_model=form_of(RulesPreview))
async def preview_rules(form: RulesPreviewForm, manager: _Manager, request: Request) -> Response:
    """What rules would do to requests; nothing is stored, and no answer is written down."""
    context = context_of(request)
    rules = parse_rules(form.rules)
    text, _ = await asyncio.to_thread(context.store.rules)
    columns = await asyncio.to_thread(_columns, rules, context.store)
    effects = []
    # One after the other: a preview has time, other requests have not.
    for each in form.requests:
        asked = request_of(each, *manager.acting_for(each.user_id, each.session_id))
        before = await context.recommender.preview(asked, text)
        effects.append(RulesEffect(before, await context.recommender.preview(asked, form.rules)))
    return answer(RulesPreview(effects, list(lint(rules, columns))))


@router.get("/audit", response_model=list[form_of(AuditEntry)])  # type: ignore[misc]
def audit_log(
    reader: _Reader, request: Request, limit: Annotated[int, Query(ge=1, le=1_000, description="Entries.")] = 100
) -> Response:
    """What administrators did, the newest first; users are named by the SHA-256 of their ids."""
    return answer(context_of(request).store.audit_log(limit))


def _columns(rules: Rules, store: Store) -> Collection[str]:
    """Those of the columns that rules read which items have."""
    wanted = {column for rule in rules.rules for column in rule.columns()}
    found: set[str] = set()
    seen = 0
    for batch in store.all_items():
        found |= columns_of(change.item for change in batch if change.item is not None)
        seen += len(batch)
        if wanted <= found or seen >= _MOST_ITEMS:
            break
    return found
