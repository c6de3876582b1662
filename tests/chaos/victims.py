"""Everything that is done to a platform: kill -9 of nine kinds of process, processes that stand still, cut connections."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos.platform import Platform

SUPERVISOR = "supervisor"
KILL, STOP, CUT = "kill -9", "SIGSTOP", "cut"
OTHERS = ("identity", "billing", "policy", "audit")
KINDS: dict[tuple[str, str], tuple[str, ...]] = {
    (KILL, SUPERVISOR): (SUPERVISOR,),
    (KILL, "edge"): ("gateway.api",),
    (KILL, "execution api"): ("execution.api",),
    (KILL, "another api"): tuple(f"{service}.api" for service in OTHERS),
    (KILL, "execution work"): ("execution.work",),
    (KILL, "audit work"): ("audit.work",),
    (KILL, "another work"): ("identity.work", "billing.work", "policy.work", "gateway.work"),
    (KILL, "RabbitMQ"): ("rabbitmq",),
    (KILL, "PostgreSQL"): ("postgres",),
    (STOP, "execution work"): ("execution.work",),
    (STOP, "an api"): ("gateway.api", "execution.api", *(f"{service}.api" for service in OTHERS)),
    (STOP, "another work"): ("identity.work", "billing.work", "policy.work", "gateway.work", "audit.work"),
    (CUT, "PostgreSQL"): ("postgres",),
    (CUT, "RabbitMQ"): ("rabbitmq",),
}
LONGEST_STOP_SECONDS = 5.0
"""Half a lease: whoever stands still for longer has its runs taken over, and a write that it was about to call for
cannot be told from one that it has called for."""
CUT_SHARE = 0.6
"""So many of all connections are cut, at random."""
_CUT = """select count(pg_terminate_backend(pid)) from pg_stat_activity
where usename like 'remit%' and pid <> pg_backend_pid() and random() < $1"""


@dataclass(frozen=True)
class Fault:
    """One fault of the plan: how, of which kind, which process exactly, and how long after the last one healed."""

    how: str
    kind: str
    target: str
    after_seconds: float
    seconds: float
    """How long a process that is stopped stands still."""


@dataclass(frozen=True)
class Healed:
    """A fault that was done, and how long it took until everything stood again."""

    fault: Fault
    seconds: float


def plan(count: int, chance: random.Random) -> list[Fault]:
    """So many faults: every kind as often as the others, as far as that goes, in any order."""
    kinds = list(KINDS) * (count // len(KINDS)) + chance.sample(list(KINDS), count % len(KINDS))
    chance.shuffle(kinds)
    return [
        Fault(
            how, kind, chance.choice(KINDS[how, kind]), chance.uniform(0.2, 1.5), chance.uniform(0.3, LONGEST_STOP_SECONDS)
        )
        for how, kind in kinds
    ]  # fmt: skip


async def strike(platform: Platform, fault: Fault) -> Healed:
    """Do it, and wait until the platform has healed."""
    started = time.monotonic()
    if fault.target == SUPERVISOR:
        await platform.kill_supervisor()
        platform.start()
        await platform.until_ready()
    elif fault.how == CUT:
        await _cut(platform, fault.target)
        await platform.until_ready()
    else:
        pid = platform.pid_of(fault.target)
        assert pid is not None, f"{fault.target} does not run"
        if fault.how == KILL:
            os.kill(pid, signal.SIGKILL)
            await platform.until_replaced(fault.target, pid)
        else:
            await _stop(pid, fault.seconds)
            await platform.until_ready()
    return Healed(fault, time.monotonic() - started)


async def _stop(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


async def _cut(platform: Platform, server: str) -> None:
    if server == "postgres":
        await platform.query("execution", _CUT, CUT_SHARE)
    else:
        broker = platform.installation.rabbitmq
        await asyncio.to_thread(broker.control, "close_all_connections", "chaos")


def report(healed: Sequence[Healed], say: Callable[[str], None]) -> None:
    """A table of what was done, how often, and how long the slowest healing took."""
    say(f"{'fault':<28}{'times':>6}{'slowest to heal':>18}")
    for how, kind in KINDS:
        times = [one.seconds for one in healed if (one.fault.how, one.fault.kind) == (how, kind)]
        say(f"{f'{how} {kind}':<28}{len(times):>6}" + (f"{max(times):>16.1f} s" if times else ""))
