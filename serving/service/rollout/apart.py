"""Reads what the arms did in a process of its own: for seconds, in which answers would wait for Python's lock."""

import asyncio
import multiprocessing
import os
from multiprocessing.connection import Connection
from typing import Final

from serving.service.errors import ServiceError
from serving.service.outcomes import OutcomeSettings
from serving.service.rollout.deciding import Observed
from serving.service.rollout.observing import observe
from serving.service.store import Rollout, StoreError, StoreSettings, UnavailableError, open_store

_LESS_URGENT: Final = 10
_CONNECTIONS: Final = 2


class Apart:
    """`observe`, in a process that begins and ends with each call.

    Args:
        store: The store's address.
        settings: How outcomes are attributed, and how much is read.
        most_seconds: For one call.
    """

    def __init__(self, store: str, settings: OutcomeSettings, most_seconds: float = 600.0) -> None:
        self._store = store
        self._settings = settings
        self._most_seconds = most_seconds

    async def __call__(self, rollout: Rollout, now: float) -> Observed:
        """What the arms did until now.

        Raises:
            InvalidRequestError: there is more than the settings allow.
            StoreError: the store can't be read, or the process has died.
        """
        # Not a fork: threads of this process may hold locks.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        arguments = (theirs, self._store, rollout, now, self._settings)
        process = context.Process(target=_observe, args=arguments, daemon=True, name="rollout")
        with ours:
            await asyncio.to_thread(process.start)
            theirs.close()
            try:
                found = await asyncio.to_thread(_received, ours, self._most_seconds)
            finally:
                # Also when the service stops meanwhile: then the other thread finds nobody there.
                process.kill()
                process.join()
        if isinstance(found, Exception):
            raise found
        return found


def _received(connection: Connection, seconds: float) -> Observed | Exception:
    try:
        if not connection.poll(seconds):
            return UnavailableError(f"The versions could not be compared within {seconds:g} s.")
        found: Observed | Exception = connection.recv()
    except (EOFError, OSError) as error:
        return UnavailableError(f"The process that compares the versions has died: {error or type(error).__name__}")
    return found


def _observe(connection: Connection, url: str, rollout: Rollout, now: float, settings: OutcomeSettings) -> None:
    os.nice(_LESS_URGENT)
    try:
        with open_store(url, settings=StoreSettings(connections=_CONNECTIONS)) as store:
            connection.send(observe(store, rollout, now, settings))
    except (ServiceError, StoreError) as error:
        connection.send(error)
