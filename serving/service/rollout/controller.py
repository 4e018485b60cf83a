"""Compares the arms again and again, and decides."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from serving.service.errors import InvalidRequestError
from serving.service.outcomes import OutcomeSettings
from serving.service.rollout.deciding import Action, Decision, Observed, decide
from serving.service.rollout.settings import RolloutSettings
from serving.service.store import ConflictError, Rollout, RolloutState, Store

_LOG = logging.getLogger(__name__)
ACTOR: Final = "service"
"""In the log: no administrator has decided."""
_DAY: Final = 86_400.0
# A comparison reads all answers of the trial again; this keeps it to a twentieth of a core.
_REST: Final = 20.0
# Answers to people whom nobody knows are read too, and left out.
_SPARE: Final = 4
Observe = Callable[[Rollout, float], Awaitable[Observed]]
"""Reads what the arms did until a time: `serving.service.rollout.apart.Apart`."""


def outcome_settings(settings: RolloutSettings, outcomes: OutcomeSettings) -> OutcomeSettings:
    """How outcomes are attributed, as in all other figures, and how much is read in a trial."""
    return replace(outcomes, most_answers=_SPARE * settings.most_answers)


class Controller:
    """Brings a roll-out forward; of several replicas the one that looks first.

    Args:
        store: Has the roll-outs.
        model: Its name at the model server.
        settings: Of the trial.
        observe: Reads the answers and the events.
        is_ready: Whether this replica has the canary ready.
    """

    def __init__(
        self, store: Store, model: str, settings: RolloutSettings, observe: Observe, is_ready: Callable[[], bool]
    ) -> None:
        self._store = store
        self._model = model
        self._settings = settings
        self._is_ready = is_ready
        self._observe = observe
        self._seconds = 0.0

    async def look(self) -> None:
        """Compares the arms if it is time to, and changes the roll-out.

        Raises:
            StoreError: the store can't be read or written.
        """
        rollout = await asyncio.to_thread(self._store.current_rollout, self._model)
        now = time.time()
        if rollout is None:
            return
        try:
            if rollout.state is RolloutState.WAITING:
                await self._wait(rollout, now)
            elif rollout.state is RolloutState.RUNNING:
                await self._run(rollout, now)
        except ConflictError as error:
            # Another replica or an administrator was faster.
            _LOG.info("%s", error)

    async def _wait(self, rollout: Rollout, now: float) -> None:
        if self._is_ready():
            await self._change(rollout, RolloutState.RUNNING, "The canary is ready.", self._settings.shares[0])
        elif now - rollout.begun > self._settings.most_waiting_days * _DAY:
            reason = f"No service had version {rollout.canary} ready within {self._settings.most_waiting_days:g} days."
            await self._change(rollout, RolloutState.ROLLED_BACK, reason)

    async def _run(self, rollout: Rollout, now: float) -> None:
        if now - rollout.looked < max(self._settings.look_seconds, _REST * self._seconds):
            return
        if not await asyncio.to_thread(self._store.claim_rollout, rollout, now):
            return
        started = time.monotonic()
        days = (now - rollout.stages[0].since) / _DAY
        try:
            seen = await self._observe(rollout, now)
        except InvalidRequestError as error:
            reason = f"The trial can't be measured: {error}"
            await self._change(rollout, RolloutState.ROLLED_BACK, reason)
            return
        stage = len(rollout.stages) - 1
        decision = await asyncio.to_thread(decide, seen, stage, days, self._settings)
        self._seconds = time.monotonic() - started
        figures = as_json(decision, now)
        if decision.action is Action.WAIT:
            await asyncio.to_thread(self._store.put_rollout_figures, rollout, figures)
        elif decision.action is Action.GROW:
            share = self._settings.shares[stage + 1]
            await self._change(rollout, RolloutState.RUNNING, decision.reason, share, figures)
        else:
            state = RolloutState.PROMOTED if decision.action is Action.PROMOTE else RolloutState.ROLLED_BACK
            await self._change(rollout, state, decision.reason, None, figures)

    async def _change(
        self,
        rollout: Rollout,
        state: RolloutState,
        reason: str,
        share: float | None = None,
        figures: dict[str, Any] | None = None,
    ) -> None:
        await asyncio.to_thread(self._store.change_rollout, rollout, state, ACTOR, reason, share=share, figures=figures)
        _LOG.warning("Roll-out %d of version %d is %s: %s", rollout.number, rollout.canary, state.value, reason)


def as_json(decision: Decision, now: float) -> dict[str, Any]:
    """What the store keeps of a comparison."""
    return {
        "at": now,
        "answers": decision.answers,
        "canary_answers": decision.canary_answers,
        "failures": decision.failures,
        "people": dict(zip(("stable", "canary"), decision.people, strict=True)),
        "lift": {
            name: {"value": each.value, "error": each.error, "low": each.low, "high": each.high}
            for name, each in decision.figures.items()
        },
    }
