"""What a supervisor keeps alive: the description of one child, its states, and how private servers become children."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from signal import SIGTERM, Signals

from remit_local.process import Command
from remit_local.rabbitmq import RabbitMQ
from remit_local.server import Server

Ready = Callable[[], Awaitable[bool]]


class ChildState(StrEnum):
    """Where a child is between its first start and its end."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    DONE = "done"
    RESTARTING = "restarting"
    CRASH_LOOP = "crash_loop"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Child:
    """One process to keep alive.

    `command` blocks and is asked anew before every start, so it may look up what its predecessors settled. `after`
    names the children that must be ready first, and that are stopped later; one that starts `early` waits for them
    itself, because it has much to import meanwhile. `once`: ready when it has ended well.
    """

    name: str
    command: Callable[[], Command]
    ready: Ready | None = None
    after: tuple[str, ...] = ()
    once: bool = False
    early: bool = False
    ready_seconds: float = 300
    stop_signal: Signals = SIGTERM
    stop_seconds: float = 10
    started: Callable[[int], None] = field(default=lambda _pid: None)


def program(
    name: str,
    argv: tuple[str, ...],
    env: Mapping[str, str] | Callable[[], Mapping[str, str]],
    *,
    cwd: Path,
    ready: Ready | None = None,
    after: tuple[str, ...] = (),
    once: bool = False,
    early: bool = False,
    stop_seconds: float = 10,
) -> Child:
    """Describe a child by its arguments; an `env` that earlier children settle is a function, asked at each start."""

    def command() -> Command:
        return Command(argv, env() if callable(env) else env, cwd)

    return Child(name, command, ready, after, once, early, stop_seconds=stop_seconds)


def server_child(server: Server, *, after: tuple[str, ...] = (), stop_seconds: float = 10) -> Child:
    """Describe a private server as a child that is ready when the server answers."""

    async def ready() -> bool:
        return await asyncio.to_thread(server.is_ready)

    return Child(
        server.name,
        server.prepare,
        ready,
        after,
        stop_signal=server.stop_signal,
        stop_seconds=stop_seconds,
        started=server.remember,
    )


def rabbitmq_children(rabbitmq: RabbitMQ, *, stop_seconds: float = 10) -> tuple[Child, Child]:
    """Describe the broker and, before it, its port mapper."""
    return (
        server_child(rabbitmq.epmd, stop_seconds=1),
        server_child(rabbitmq, after=(rabbitmq.epmd.name,), stop_seconds=stop_seconds),
    )
