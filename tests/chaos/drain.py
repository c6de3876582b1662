"""Waiting for the end of the work: every run ended, every fact audited, every step booked."""

from __future__ import annotations

import asyncio
import time

from tests.chaos.platform import Platform, PlatformError

from contracts.catalog import SERVICES

DRAIN_SECONDS = 120
LOOK_SECONDS = 0.5
_OPEN = """select count(*) from run where status not in ('completed', 'failed', 'cancelled', 'timed_out')"""
_STEPS = "select count(*) from step where completed_at is not null and status <> 'skipped'"
_BOOKED = "select count(*) from usage_event"
_UNSENT = "select (select count(*) from outbox) as waiting, (select count(*) from fact_log) as facts"
_AUDITED = "select count(*) from entry"


async def drained(platform: Platform, runs: int) -> float:
    """Wait until nothing is under way any more; gives the seconds it took."""
    started = time.monotonic()
    before: tuple[int, ...] | None = None
    while True:
        now = await _left(platform)
        total, *left = now
        if not any(left) and now == before and total >= runs:
            return time.monotonic() - started
        if time.monotonic() - started > DRAIN_SECONDS:
            names = ("facts", "open runs", "unbooked steps", "facts in outboxes", "facts that audit lacks")
            raise PlatformError(f"not drained within {DRAIN_SECONDS} s: {dict(zip(names, now, strict=True))}")
        before = now
        await asyncio.sleep(LOOK_SECONDS)


async def _left(platform: Platform) -> tuple[int, ...]:
    """How many facts there are, and how much is still under way of each kind."""
    unsent = [(await platform.query(service, _UNSENT))[0] for service in SERVICES]
    facts = sum(row["facts"] for row in unsent)
    runs = (await platform.query("execution", _OPEN))[0][0]
    steps = (await platform.query("execution", _STEPS))[0][0] - (await platform.query("billing", _BOOKED))[0][0]
    audited = (await platform.query("audit", _AUDITED))[0][0]
    return facts, runs, steps, sum(row["waiting"] for row in unsent), facts - audited
