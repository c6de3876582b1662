"""What every test runs under: one event loop, sockets to this machine only, sixty seconds."""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import inspect
import ipaddress
import os
import signal
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import hypothesis
import pytest
import uvloop
from _pytest.faulthandler import fault_handler_stderr_fd_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import FrameType

pytest_plugins = ["remit_local.testing"]

SECONDS_PER_TEST = 60
GRACE_SECONDS = 5

hypothesis.settings.register_profile("remit", deadline=None, print_blob=True)
hypothesis.settings.load_profile("remit")


class OutsideConnectionError(RuntimeError):
    """A test tried to leave this machine; not an OSError, so that no retry swallows it."""


def _configured_hosts() -> frozenset[str]:
    names = ("REMIT_TEST_POSTGRES_URL", "REMIT_TEST_AMQP_URL", "REMIT_TEST_STREAM_URL")
    return frozenset(host for name in names if (host := urlsplit(os.environ.get(name, "")).hostname))


NEAR_HOSTS = _configured_hosts() | {"", "localhost"}


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refuse_outside(host: object) -> None:
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    if name in NEAR_HOSTS or (_is_number(name) and ipaddress.ip_address(name).is_loopback):
        return
    raise OutsideConnectionError(f"tests stay on this machine, this one wanted {name!r}")


def _audit_sockets(event: str, args: tuple[Any, ...]) -> None:
    if event in {"socket.connect", "socket.sendto"} and isinstance(args[1], tuple):
        _refuse_outside(args[1][0])
    elif event == "socket.getaddrinfo" and not _is_number(str(args[0])):
        _refuse_outside(args[0])


class GuardedLoop(uvloop.Loop):
    """uvloop opens sockets below Python, where no audit hook sees them: the same rule at its doors."""

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """Connect, on this machine only."""
        if options.get("sock") is None:
            _refuse_outside(host)
        return await super().create_connection(protocol_factory, host, port, **options)

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """Resolve a number or a name of this machine."""
        if not _is_number(str(host)):
            _refuse_outside(host)
        return await super().getaddrinfo(host, port, **options)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": GuardedLoop}


def pytest_configure(config: pytest.Config) -> None:
    del config
    sys.addaudithook(_audit_sockets)


def _limit(item: pytest.Item) -> float:
    marker = item.get_closest_marker("seconds")
    return float(marker.args[0]) if marker else SECONDS_PER_TEST


def _within(seconds: float, test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def run(*args: object, **named: object) -> None:
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                await test(*args, **named)
        except TimeoutError:
            if deadline.expired():
                pytest.fail(f"longer than {seconds:g} s")
            raise

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # hypothesis wraps its own function; the alarm and the net below still hold for it.
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _within(_limit(item), item.obj)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End a test that hangs: an alarm for plain code; for what even that can't interrupt, the end of the process."""
    seconds = _limit(item)

    def expire(_signal: int, _frame: FrameType | None) -> None:
        # uvloop swallows what a signal raises: there the test's own deadline speaks.
        if asyncio._get_running_loop() is None:  # noqa: SLF001  (get_running_loop raises, in a signal handler)
            pytest.fail(f"longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(
        seconds + GRACE_SECONDS, exit=True, file=item.config.stash[fault_handler_stderr_fd_key]
    )
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
