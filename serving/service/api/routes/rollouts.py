"""Roll-outs of new versions of the model."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from serving.service.api.access.principals import Permission, Principal
from serving.service.api.bodies.answers import form_of
from serving.service.api.bodies.rollouts import NewRollout, Verdict
from serving.service.api.context import context_of
from serving.service.api.problems import ProblemError
from serving.service.api.routes.common import Requires, answer
from serving.service.store import Rollout, RolloutState

router = APIRouter(prefix="/v1/rollouts", tags=["Roll-outs"])
_Reader = Annotated[Principal, Depends(Requires(Permission.READ))]
_Manager = Annotated[Principal, Depends(Requires(Permission.MANAGE))]
_Number = Annotated[int, Path(ge=1, lt=2**63, description="Of the roll-out.")]


@router.get("", response_model=list[form_of(Rollout)])  # type: ignore[misc]
def get_rollouts(
    reader: _Reader, request: Request, limit: Annotated[int, Query(ge=1, le=1_000, description="Roll-outs.")] = 20
) -> Response:
    """The newest first, with their stages, the last comparison of the versions, and why they were decided."""
    return answer(context_of(request).store.rollouts(limit))


@router.post("", response_model=form_of(Rollout), status_code=HTTPStatus.CREATED)
def start_rollout(manager: _Manager, request: Request, body: NewRollout) -> Response:
    """Begins to try a version; it waits until the model server has given it the label `canary`."""
    context = context_of(request)
    if not context.options.canary:
        raise ProblemError(HTTPStatus.CONFLICT, "Roll-outs are not followed. Remedy: start the service with --canary.")
    model = context.options.model_name
    rollout = context.store.start_rollout(model, body.stable, body.canary, manager.key, body.report)
    return answer(rollout, HTTPStatus.CREATED)


@router.post("/{number}/promote", response_model=form_of(Rollout))
def promote(number: _Number, manager: _Manager, request: Request, body: Verdict) -> Response:
    """Gives everybody the version that is tried, whatever the comparison says."""
    return _decide(number, manager, request, body, RolloutState.PROMOTED)


@router.post("/{number}/rollback", response_model=form_of(Rollout))
def roll_back(number: _Number, manager: _Manager, request: Request, body: Verdict) -> Response:
    """Gives everybody the stable version, also after a promotion until its labels have moved."""
    return _decide(number, manager, request, body, RolloutState.ROLLED_BACK)


@router.post("/{number}/end", response_model=form_of(Rollout))
def end(number: _Number, manager: _Manager, request: Request) -> Response:
    """Says that the model server's labels have moved as it was decided: its newest version is asked from now on."""
    return answer(context_of(request).store.end_rollout(number, manager.key))


def _decide(number: int, manager: Principal, request: Request, body: Verdict, state: RolloutState) -> Response:
    store = context_of(request).store
    return answer(store.change_rollout(store.rollout(number), state, manager.key, body.reason))
