"""The nine kinds of process that are killed, and in which order."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos.platform import Platform

SUPERVISOR = "supervisor"
KINDS: dict[str, tuple[str, ...]] = {
    SUPERVISOR: (SUPERVISOR,),
    "edge": ("gateway.api",),
    "execution api": ("execution.api",),
    "another api": ("identity.api", "billing.api", "policy.api", "audit.api"),
    "execution work": ("execution.work",),
    "audit work": ("audit.work",),
    "another work": ("identity.work", "billing.work", "policy.work", "gateway.work"),
    "RabbitMQ": ("rabbitmq",),
    "PostgreSQL": ("postgres",),
}


@dataclass(frozen=True)
class Kill:
    """One kill of the plan: of which kind, which process exactly, and how long after the last one healed."""

    kind: str
    target: str
    after_seconds: float


@dataclass(frozen=True)
class Healed:
    """A kill that was done, and how long it took until everything stood again."""

    kill: Kill
    pid: int
    seconds: float


def plan(count: int, chance: random.Random) -> list[Kill]:
    """So many kills: every kind as often as the others, as far as that goes, in any order."""
    kinds = list(KINDS) * (count // len(KINDS)) + chance.sample(list(KINDS), count % len(KINDS))
    chance.shuffle(kinds)
    return [Kill(kind, chance.choice(KINDS[kind]), chance.uniform(0.2, 1.5)) for kind in kinds]


async def strike(platform: Platform, kill: Kill) -> Healed:
    """Kill it and wait until the platform has healed."""
    started = time.monotonic()
    if kill.target == SUPERVISOR:
        pid = await platform.kill_supervisor()
        platform.start()
        await platform.until_ready()
    else:
        found = platform.pid_of(kill.target)
        assert found is not None, f"{kill.target} does not run"
        pid = found
        os.kill(pid, signal.SIGKILL)
        await platform.until_replaced(kill.target, pid)
    return Healed(kill, pid, time.monotonic() - started)


def report(healed: Sequence[Healed], say: Callable[[str], None]) -> None:
    """A table of what was killed, how often, and how long the slowest healing took."""
    say(f"{'victim':<16}{'kills':>6}{'slowest to heal':>18}")
    for kind in KINDS:
        times = [one.seconds for one in healed if one.kill.kind == kind]
        say(f"{kind:<16}{len(times):>6}" + (f"{max(times):>16.1f} s" if times else ""))
