"""Roll-outs of new versions of the model, which all replicas follow."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from serving.service.store import limits, schema
from serving.service.store.errors import ConflictError, InvalidError, NotFoundError
from serving.service.store.part import Part
from serving.service.store.types import Rollout, RolloutState, Stage

_rollouts = schema.rollouts.c
_JSON: Final = ("stages", "figures", "report")
_NEXT: Final[Mapping[RolloutState, frozenset[RolloutState]]] = {
    RolloutState.WAITING: frozenset({RolloutState.RUNNING, RolloutState.PROMOTED, RolloutState.ROLLED_BACK}),
    RolloutState.RUNNING: frozenset({RolloutState.RUNNING, RolloutState.PROMOTED, RolloutState.ROLLED_BACK}),
    # Until the labels have moved somebody may still think better of it.
    RolloutState.PROMOTED: frozenset({RolloutState.ROLLED_BACK, RolloutState.ENDED}),
    RolloutState.ROLLED_BACK: frozenset({RolloutState.ENDED}),
    RolloutState.ENDED: frozenset(),
}
_LARGEST: Final = 2**63 - 1
# Characters of an entry in the log: of four bytes each they are within its limit.
_DETAIL: Final = 500


class Rollouts(Part):
    """Roll-outs. A change names the revision that it is about, so that of two replicas one decides."""

    def start_rollout(
        self, model: str, stable: int, canary: int, actor: str, report: Mapping[str, Any] | None = None
    ) -> Rollout:
        """Begins one, which waits until a service has the canary ready.

        Args:
            model: Name at the model server.
            stable, canary: The version that is served, and the new one.
            actor: Who begins it, for the log.
            report: Kept with it, such as that of the gate; what JSON can express.

        Raises:
            ConflictError: the model has one that has not ended.
        """
        limits.check_id("model", model)
        limits.check_id("actor", actor)
        for name, version in (("stable", stable), ("canary", canary)):
            if not 0 < version <= _LARGEST:
                raise InvalidError(f"`{name}` is {version}. Remedy: give the number of a version, from 1.")
        if stable == canary:
            raise InvalidError(f"`stable` and `canary` are both {stable}. Remedy: export a new version.")
        text = _encoded("report", report or {})
        now = time.time()
        with self._database.writing() as connection:
            if not self._database.is_sqlite:
                # Two at once would take the same number, or be two.
                connection.execute(sa.text("LOCK TABLE rollouts IN EXCLUSIVE MODE"))
            other = connection.execute(_open_of(model)).one_or_none()
            if other is not None:
                raise ConflictError(
                    f"Roll-out {other.number} of {model!r} has not ended. Remedy: decide it, and end it once the "
                    "labels have moved."
                )
            last = connection.execute(sa.select(sa.func.max(_rollouts.number))).scalar_one() or 0
            row = {
                "number": last + 1,
                "revision": 1,
                "model": model,
                "stable": stable,
                "canary": canary,
                "state": RolloutState.WAITING.value,
                "begun": now,
                "changed": now,
                "looked": 0.0,
                "reason": "",
                "stages": "[]",
                "figures": "{}",
                "report": text,
            }
            connection.execute(sa.insert(schema.rollouts), row)
            _log(connection, actor, "start rollout", last + 1, f"{model}: version {canary} against {stable}")
            return _rollout(connection.execute(_of(last + 1)).one())

    def rollout(self, number: int) -> Rollout:
        """One of them.

        Raises:
            NotFoundError: there is none of that number.
        """
        if not 0 < number <= _LARGEST:
            raise _unknown(number)
        with self._database.reading() as connection:
            row = connection.execute(_of(number)).one_or_none()
        if row is None:
            raise _unknown(number)
        return _rollout(row)

    def current_rollout(self, model: str) -> Rollout | None:
        """The one of a model that has not ended, if there is one."""
        limits.check_id("model", model)
        with self._database.reading() as connection:
            row = connection.execute(_open_of(model)).one_or_none()
        return None if row is None else _rollout(row)

    def rollouts(self, limit: int = 100) -> list[Rollout]:
        """The newest first."""
        limits.check_limit(limit)
        query = sa.select(schema.rollouts).order_by(_rollouts.number.desc()).limit(limit)
        with self._database.reading() as connection:
            return [_rollout(row) for row in connection.execute(query)]

    def claim_rollout(self, rollout: Rollout, now: float) -> bool:
        """Makes this replica the one that compares the arms next; False if another one has begun meanwhile."""
        same = (_rollouts.number == rollout.number, _rollouts.looked == rollout.looked)
        with self._database.writing() as connection:
            return connection.execute(sa.update(schema.rollouts).where(*same).values(looked=now)).rowcount == 1

    def put_rollout_figures(self, rollout: Rollout, figures: Mapping[str, Any]) -> None:
        """Keeps a comparison; it changes nothing else, and is lost if the roll-out has been changed meanwhile."""
        same = (_rollouts.number == rollout.number, _rollouts.revision == rollout.revision)
        text = _encoded("figures", figures)
        with self._database.writing() as connection:
            connection.execute(sa.update(schema.rollouts).where(*same).values(figures=text))

    def change_rollout(
        self,
        rollout: Rollout,
        state: RolloutState,
        actor: str,
        reason: str,
        *,
        share: float | None = None,
        figures: Mapping[str, Any] | None = None,
    ) -> Rollout:
        """Changes the state, or the share of a running one, and writes both into the log.

        Args:
            rollout: As it was read.
            state: The new one.
            actor: Who changes it.
            reason: Why.
            share: Of a new stage; only for ``running``.
            figures: By which it was decided; None: those of before stay.

        Raises:
            ConflictError: it was changed meanwhile, or can't come into this state.
        """
        limits.check_id("actor", actor)
        limits.check_text("reason", reason)
        if state not in _NEXT[rollout.state]:
            raise ConflictError(
                f"Roll-out {rollout.number} is {rollout.state.value!r} and can't become {state.value!r}. "
                "Remedy: read its state."
            )
        if (share is not None) != (state is RolloutState.RUNNING) or not 0.0 <= (share or 0.0) <= 1.0:
            raise InvalidError(f"`share` is {share} for {state.value!r}. Remedy: give 0 to 1 with 'running' alone.")
        now = time.time()
        stages = [*rollout.stages, *([] if share is None else [Stage(share=share, since=now)])]
        values: dict[str, Any] = {"state": state.value, "reason": reason, "changed": now}
        values |= {"revision": rollout.revision + 1, "stages": _encoded("stages", stages)}
        if figures is not None:
            values["figures"] = _encoded("figures", figures)
        same = (_rollouts.number == rollout.number, _rollouts.revision == rollout.revision)
        with self._database.writing() as connection:
            if connection.execute(sa.update(schema.rollouts).where(*same).values(values)).rowcount != 1:
                raise ConflictError(f"Roll-out {rollout.number} has been changed meanwhile. Remedy: read it again.")
            detail = state.value if share is None else f"{state.value} {share:.1%}"
            _log(connection, actor, "change rollout", rollout.number, f"{detail}: {reason}")
            return _rollout(connection.execute(_of(rollout.number)).one())

    def end_rollout(self, number: int, actor: str) -> Rollout:
        """Says that the labels have moved as it was decided: requests name none from now on.

        Raises:
            NotFoundError: there is none of that number.
            ConflictError: it is not decided.
        """
        rollout = self.rollout(number)
        if rollout.state is RolloutState.ENDED:
            return rollout
        return self.change_rollout(rollout, RolloutState.ENDED, actor, rollout.reason)


def _of(number: int) -> sa.Select[Any]:
    return sa.select(schema.rollouts).where(_rollouts.number == number)


def _open_of(model: str) -> sa.Select[Any]:
    return sa.select(schema.rollouts).where(_rollouts.model == model, _rollouts.state != RolloutState.ENDED.value)


def _rollout(row: sa.Row[Any]) -> Rollout:
    values: dict[str, Any] = dict(zip(_rollouts.keys(), row, strict=True))
    values |= {name: msgspec.json.decode(values[name]) for name in _JSON}
    stages: Sequence[Mapping[str, float]] = values["stages"]
    values |= {"state": RolloutState(values["state"]), "stages": [Stage(**each) for each in stages]}
    return Rollout(**values)


def _encoded(name: str, value: object) -> str:
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidError(f"`{name}` can't be written as JSON: {error}. Remedy: give texts and numbers.") from None
    limits.check_text(name, text, limits.BODY_BYTES)
    return text


def _log(connection: sa.Connection, actor: str, action: str, number: int, detail: str) -> None:
    row = {"actor": actor, "action": action, "target": str(number), "detail": detail[:_DETAIL]}
    connection.execute(sa.insert(schema.audit), row | {"timestamp": int(time.time())})


def _unknown(number: int) -> NotFoundError:
    return NotFoundError(f"There is no roll-out {number}. Remedy: list them.")
