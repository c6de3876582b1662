"""A test that hangs, leaves this machine or lets a warning pass is shown to fail."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from remit_local.dev.commands import program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("plants")

SPOILED = """
import asyncio, gc, socket, time, warnings
import pytest

@pytest.fixture(autouse=True)
def tidy():
    yield
    gc.collect()  # what a test leaves behind is told as its own, not as that of whoever is next

@pytest.mark.seconds(0.5)
def test_hangs():
    time.sleep(30)

@pytest.mark.seconds(0.5)
@pytest.mark.anyio
async def test_hangs_on_the_loop():
    await asyncio.sleep(30)

@pytest.mark.anyio
async def test_leaves_by_the_loop():
    await asyncio.open_connection("192.0.2.1", 80)

@pytest.mark.anyio
async def test_resolves_by_the_loop():
    await asyncio.get_running_loop().getaddrinfo("remit.invalid", 80)

def test_leaves():
    socket.create_connection(("192.0.2.1", 80), timeout=1)

def test_resolves():
    socket.getaddrinfo("remit.invalid", 80)

def test_warns():
    warnings.warn("old", DeprecationWarning)

@pytest.mark.anyio
async def test_forgets_to_await():
    asyncio.sleep(0)

@pytest.mark.anyio
async def test_stays():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection("localhost", server.sockets[0].getsockname()[1])
        assert await reader.read() == b""
        writer.close()
"""
REASONS = {
    "test_hangs": "Failed: longer than 0.5 s",
    "test_hangs_on_the_loop": "Failed: longer than 0.5 s",
    "test_leaves_by_the_loop": "tests stay on this machine, this one wanted '192.0.2.1'",
    "test_resolves_by_the_loop": "tests stay on this machine, this one wanted 'remit.invalid'",
    "test_leaves": "tests stay on this machine, this one wanted '192.0.2.1'",
    "test_resolves": "tests stay on this machine, this one wanted 'remit.invalid'",
    "test_warns": "DeprecationWarning: old",
    "test_forgets_to_await": "unraisable",
}


@pytest.fixture(scope="module")
def report(copy: Path) -> str:
    (copy / "tests").mkdir(exist_ok=True)
    (copy / "tests" / "test_spoiled.py").write_text(SPOILED, encoding="utf-8")
    argv = [program("pytest"), "-q", "--tb=line", "-n0", "-p", "no:cacheprovider", "tests/test_spoiled.py"]
    done = subprocess.run(argv, cwd=copy, capture_output=True, text=True, check=False, env={"COLUMNS": "300"})
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("test", "reason"), REASONS.items())
def test_a_spoiled_test_fails_for_its_reason(report: str, test: str, reason: str) -> None:
    (line,) = [line for line in report.splitlines() if line.startswith("FAILED") and f"::{test} " in line]
    assert reason.lower() in line.lower()


def test_a_test_that_stays_passes(report: str) -> None:
    assert f"{len(REASONS)} failed, 1 passed" in report
