"""A disk that fills up: a clear error, nothing accepted is lost, and all is well when there is room again.

The platform lives in a namespace of its own, where the folders of PostgreSQL, the broker and the object store are small
file systems in memory, each filled to the brim in turn.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from tests.agents.logging_agent import logging_agent
from tests.chaos.platform import Platform
from tests.chaos.traffic import Traffic
from tests.town import Reply, Town, until

from chassis.ids import new_id
from contracts.catalog import SERVICES
from remit_local.loopback import free_port

MEGABYTE = 1024 * 1024
SIZES = {"postgres": 400, "rabbitmq": 400, "objects": 16}
"""Megabytes of each; the broker stops taking messages when less than 200 of its own are free."""
BROKER_NEEDS = 200
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
LARGE_INPUT = {"topic": "x" * (200 * 1024)}
"""Above what a row holds, so it goes to the object store."""


def _has_namespaces() -> bool:
    probe = (*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    return (
        shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


pytestmark = [
    pytest.mark.skipif(not _has_namespaces(), reason="this machine lets nobody make namespaces with a tmpfs"),
    pytest.mark.xdist_group("platform"),
]


class SmallDisks:
    """The platform's own view of its folders, from outside its namespace."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        standing = platform.status()
        assert standing is not None
        self._root = Path(f"/proc/{standing.pid}/root")

    def folder(self, name: str) -> Path:
        return self._root / self._platform.folder.relative_to("/") / name

    @contextlib.contextmanager
    def full(self, name: str, *, but: int = 0) -> Iterator[None]:
        """Fill one of them, but for so many bytes; there is room again afterwards."""
        ballast = self.folder(name) / "ballast"
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            free = os.statvfs(ballast).f_bavail * os.statvfs(ballast).f_frsize
            os.posix_fallocate(file.fileno(), 0, max(1, free - but))
        try:
            yield
        finally:
            ballast.unlink()


@asynccontextmanager
async def _cramped_town(tmp_path: Path) -> AsyncIterator[tuple[Town, SmallDisks]]:
    folder = Path(tempfile.mkdtemp(prefix="remit-full-"))
    mounts = " && ".join(
        f"mkdir -p '{folder}/{name}' && mount -t tmpfs -o size={size}m,mode=700 tmpfs '{folder}/{name}'"
        for name, size in SIZES.items()
    )
    wrap = (*NAMESPACE, "sh", "-c", f'{mounts} && exec "$@"', "sh")
    async with logging_agent(tmp_path / "calls.jsonl") as agent_url, aiohttp.ClientSession() as session:
        port = free_port()
        told = {"REMIT_EXECUTION_OUTBOUND_ALLOW": urlsplit(agent_url).netloc, "REMIT_EXECUTION_PORT": str(port)}
        platform = Platform(folder, told, processes=False, wrap=wrap)
        try:
            platform.start()
            await platform.until_ready()
            disks = SmallDisks(platform)
            for name in ("port", "password"):
                # Outside the namespace these folders are empty: a test's own connections need to know where to go.
                (folder / "postgres" / name).write_bytes((disks.folder("postgres") / name).read_bytes())
            traffic = Traffic(session, platform.edge)
            organization = await traffic.organization(platform.operator_key, "cramped", agent_url)
            yield Town(platform, traffic, organization, organization, told, port), disks
        finally:
            await platform.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.anyio
@pytest.mark.seconds(300)
async def test_full_disks_are_told_lose_nothing_and_heal(tmp_path: Path) -> None:
    async with _cramped_town(tmp_path) as (town, disks):
        await _full_object_store(town, disks)
        await _full_broker(town, disks)
        await _full_database(town, disks)
        assert (await town.run(town.north))["status"] == "completed"
        await until(lambda: _is_whole(town), "every fact is in the audit log, once", 60)
        standing = town.platform.status()
        assert standing is not None
        assert standing.state == "ready"


async def _start(town: Town, value: object) -> Reply:
    body = {"agent": "worker", "input": value}
    return await town.ask("POST", "/v1/runs", town.north.key, body, {"Prefer": "wait=30"})


async def _full_object_store(town: Town, disks: SmallDisks) -> None:
    """Large inputs are refused, small runs go on."""
    with disks.full("objects"):
        refused = await _start(town, LARGE_INPUT)
        assert (refused.status, refused.json["code"]) == (503, "object_store_unavailable"), refused.body
        assert "No space left" in refused.json["detail"]
        assert (await _start(town, {"topic": "small"})).json["status"] == "completed"
        assert [path for path in disks.folder("objects").rglob("*") if path.is_file()] == [
            disks.folder("objects") / "ballast"
        ]
    again = await _start(town, LARGE_INPUT)
    assert (again.status, again.json["status"]) == (200, "completed"), again.body


async def _full_broker(town: Town, disks: SmallDisks) -> None:
    """The doors go on; what should go out waits in its tables and goes out later."""
    with disks.full("rabbitmq", but=BROKER_NEEDS // 2 * MEGABYTE):
        name = f"w {new_id().hex[-8:]}"
        await until(lambda: _waits(town, name), "facts wait for the broker", 60)
        assert (await town.ask("GET", "/v1/workspaces", town.north.key)).status == 200
    await until(lambda: _is_whole(town), "what waited has gone out", 60)


async def _waits(town: Town, name: str) -> bool:
    """Something happened that the broker has not confirmed."""
    await town.workspace(town.north, f"{name} {new_id().hex[-8:]}")
    head = (await town.platform.query("identity", "select sequence, confirmed from fact_head"))[0]
    return bool(head["sequence"] > head["confirmed"] + 2)


async def _full_database(town: Town, disks: SmallDisks) -> None:
    """Until there is room a write is refused with 503; what was accepted before is there afterwards."""
    accepted: list[str] = []

    async def refused() -> Reply | None:
        reply = await _write(town, accepted)
        return reply if reply is not None and reply.status != 201 else None

    async def taken() -> bool:
        reply = await _write(town, accepted)
        return reply is not None and reply.status == 201

    with disks.full("postgres"):
        refusal = await until(refused, "a write is refused", 60)
        assert refusal is not None
        assert (refusal.status, refusal.json["code"]) == (503, "unavailable"), refusal.body
    await until(taken, "writes are taken again", 60)
    print(f"{len(accepted)} workspaces were accepted around a full disk")
    for workspace in accepted:
        assert (await town.ask("GET", f"/v1/workspaces/{workspace}", town.north.key)).status == 200


async def _write(town: Town, accepted: list[str]) -> Reply | None:
    """Make a workspace with much to say; None where no answer came."""
    body = {"name": f"w {new_id()}", "environment_type": "development", "description": os.urandom(900).hex()}
    try:
        reply = await town.ask("POST", "/v1/workspaces", town.north.key, body)
    except (aiohttp.ClientError, TimeoutError):
        return None
    if reply.status == 201:
        accepted.append(reply.json["id"])
    return reply


async def _is_whole(town: Town) -> bool:
    try:
        waiting = [(await town.platform.query(s, "select count(*) from outbox"))[0][0] for s in SERVICES]
        facts = [(await town.platform.query(s, "select count(*) from fact_log"))[0][0] for s in SERVICES]
        entries = (
            await town.platform.query("audit", "select count(*), count(distinct (producer, sequence)) from entry")
        )[0]
    except (OSError, TimeoutError):
        return False
    return sum(waiting) == 0 and bool(entries[0] == entries[1] == sum(facts))
