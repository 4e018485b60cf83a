"""Work that never ends."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

_LOG = logging.getLogger(__name__)
# Seconds after a fault.
_PAUSE: Final = 1.0


async def keep_on(work: Callable[[], Awaitable[None]]) -> None:
    """Does endless work until cancelled, and begins again after a fault, which would otherwise go unnoticed."""
    while True:
        try:
            await work()
        except Exception:
            _LOG.exception("A task of the recommender has failed and begins again.")
        await asyncio.sleep(_PAUSE)
