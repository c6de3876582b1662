"""One process of one or several services: the only place that reads the environment and listens to signals."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import uvloop

from chassis.settings import ServiceSettings, SettingsError
from chassis.telemetry import logger
from spine.service import Service

S = TypeVar("S", bound=ServiceSettings)
ROLES = {"api": (True, False), "work": (False, True), "all": (True, True)}
log = logger(part="process")


def environment() -> Mapping[str, str]:
    """The process's environment."""
    return os.environ


def main(build: Callable[[S], Service], settings: type[S], service: str) -> None:
    """`python -m <service> api|work|all`: the HTTP door, the relay with consumers and jobs, or both."""
    role = sys.argv[1] if len(sys.argv) == 2 else ""
    if role not in ROLES:
        sys.exit(f"usage: python -m {service} api|work|all")
    try:
        built = build(settings.load(service, environment()))
    except SettingsError as error:
        sys.exit(str(error))
    run([built], role)


def run(services: Sequence[Service], role: str, ready: Callable[[], None] = lambda: None) -> None:
    """Run these services in this process until SIGTERM or SIGINT; exits with 1 when one of them ends by itself."""
    _collect_less_often()
    failed = uvloop.run(_until_signal(services, role, ready))
    if failed is not None:
        sys.exit(f"remit: {failed}")


def _collect_less_often() -> None:
    """Leave what was imported out of garbage collection, and look for cycles a thirtieth as often as Python would.

    Requests and runs leave hardly any cycles; looking for them took a fifth of a busy worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _until_signal(services: Sequence[Service], role: str, ready: Callable[[], None]) -> str | None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api, work = ROLES[role]
    started: list[str] = []

    def one_is_ready(name: str) -> Callable[[], None]:
        def note() -> None:
            started.append(name)
            if len(started) == len(services):
                ready()

        return note

    tasks = [asyncio.create_task(one.run(api=api, work=work, ready=one_is_ready(one.name))) for one in services]
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({*tasks, waiting}, return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in done if task is not waiting]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=10)
    waiting.cancel()
    if not ended:
        return None
    error = ended[0].exception()
    log.error("a service ended by itself", error=repr(error))
    return _innermost(error)


def _innermost(error: BaseException | None) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if error else "a service ended by itself"
