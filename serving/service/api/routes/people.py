"""Users, sessions and tokens."""

import secrets
from http import HTTPStatus
from typing import Annotated

from anyio import from_thread
from fastapi import APIRouter, Depends, Request, Response

from serving.service.api.access.principals import Permission, Principal
from serving.service.api.bodies.answers import form_of
from serving.service.api.bodies.outcomes import DeletedUser, Link
from serving.service.api.bodies.people import LinkForm, TokenAnswer, TokenForm, UserForm
from serving.service.api.context import context_of
from serving.service.api.identifiers import SessionIdPath, UserIdPath, path_id
from serving.service.api.routes.common import Requires, anonymous, answer, audit
from serving.service.errors import UnknownError
from serving.service.types import User, login_event

router = APIRouter(prefix="/v1", tags=["Users and sessions"])
_Manager = Annotated[Principal, Depends(Requires(Permission.MANAGE))]


@router.put("/users/{user_id}", response_model=form_of(User))
def put_user(user_id: UserIdPath, form: UserForm, manager: _Manager, request: Request) -> Response:
    """Inserts a profile or replaces it whole."""
    user = User(**(form.__dict__ | {"user_id": path_id("user_id", user_id)}))
    context_of(request).store.put_user(user)
    from_thread.run_sync(context_of(request).recommender.user_changed, user)
    audit(request, manager, "put user", anonymous(user.user_id))
    return answer(user)


@router.get("/users/{user_id}", response_model=form_of(User))
def get_user(user_id: UserIdPath, manager: _Manager, request: Request) -> Response:
    """A profile."""
    found = path_id("user_id", user_id)
    user = context_of(request).store.user(found)
    audit(request, manager, "read user", anonymous(found))
    if user is None:
        raise UnknownError("There is no such profile. Remedy: put it first.")
    return answer(user)


@router.get("/users/{user_id}/export")
def export_user(user_id: UserIdPath, manager: _Manager, request: Request) -> Response:
    """All that is kept about a person: profile, sessions, events and the recommendations that were shown."""
    found = path_id("user_id", user_id)
    exported = context_of(request).store.export_user(found)
    audit(request, manager, "export user", anonymous(found))
    return answer(exported)


@router.delete("/users/{user_id}", response_model=form_of(DeletedUser))
def delete_user(user_id: UserIdPath, manager: _Manager, request: Request) -> Response:
    """Erases a person: profile, sessions, events and recommendations; `deleted` tells whether anything was kept."""
    found = path_id("user_id", user_id)
    there = context_of(request).store.delete_user(found)
    from_thread.run_sync(context_of(request).recommender.user_deleted, found)
    audit(request, manager, "delete user", anonymous(found))
    return answer(DeletedUser(there))


@router.post("/sessions/{session_id}/user", response_model=form_of(Link))
def link_session(
    session_id: SessionIdPath,
    form: LinkForm,
    asker: Annotated[Principal, Depends(Requires(Permission.SESSIONS))],
    request: Request,
) -> Response:
    """At log-in: what the session does anonymously, before and after, counts as the user's."""
    found = path_id("session_id", session_id)
    # Every replica reads both histories again when it hears of this.
    event = login_event(found, form.user_id)
    context_of(request).store.link_session(found, form.user_id, event)
    from_thread.run_sync(context_of(request).recommender.heard, [event])
    return answer(Link(found, form.user_id))


@router.post("/tokens", status_code=HTTPStatus.CREATED, response_model=TokenAnswer)
async def make_token(
    form: TokenForm, asker: Annotated[Principal, Depends(Requires(Permission.TOKENS))], request: Request
) -> Response:
    """A token with which a browser asks for recommendations and sends events, for this user and session only.

    It expires, and ends with the key that made it.
    """
    session_id = form.session_id or secrets.token_urlsafe(16)
    made = context_of(request).tokens.make(asker.key, form.user_id, session_id, form.ttl)
    found = {"token": made.token, "expires": made.expires, "user_id": form.user_id, "session_id": session_id}
    return answer(found, HTTPStatus.CREATED)
