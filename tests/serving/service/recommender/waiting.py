"""Waiting for conditions."""

import asyncio
import time
from collections.abc import Awaitable, Callable

_LONGEST = 20.0


async def until(holds: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Waits until a condition holds; fails if it never does."""
    end = time.monotonic() + _LONGEST
    while True:
        found = holds()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.005)
