"""Waits for what a task of ours is to bring about."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    """Waits until ``holds``; fails when that takes longer than ``within_s``."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s, f"not so within {within_s:g} s"
        await asyncio.sleep(0.01)


async def eventually_so(holds: Callable[[], Awaitable[bool]], within_s: float = 10.0) -> None:
    """The same for what has to be asked."""
    deadline_s = time.monotonic() + within_s
    while not await holds():
        assert time.monotonic() < deadline_s, f"not so within {within_s:g} s"
        await asyncio.sleep(0.01)
