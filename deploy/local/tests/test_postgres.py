"""A private PostgreSQL: passwords, crashes, restarts, and nobody left behind."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from remit_local.postgres import Postgres
from remit_local.process import ServerError, family, is_alive, process_table, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path / "postgres", fsync=False)
    yield server
    server.kill()


async def query(url: str, sql: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_committed_rows_survive_a_crash_and_a_stop_under_the_same_url(postgres: Postgres) -> None:
    await postgres.start_async()
    url = postgres.superuser_url
    await query(url, "create table kept as select 7 as number")
    members = family(postgres.pid or 0)
    postgres.kill()
    assert not any(is_alive(member) for member in members)
    await postgres.start_async()
    assert await query(url, "select number from kept") == 7
    members = family(postgres.pid or 0)
    await postgres.stop_async()
    assert postgres.pid is None
    assert not any(is_alive(member) for member in members)
    await postgres.start_async()
    assert postgres.superuser_url == url
    assert await query(url, "select number from kept") == 7


@pytest.mark.parametrize("is_kept", [True, False])
async def test_only_the_password_opens_it_and_only_its_owner_can_read_it(tmp_path: Path, *, is_kept: bool) -> None:
    postgres = Postgres(tmp_path / "postgres", fsync=is_kept)
    await postgres.start_async()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await query(postgres.url("postgres", "postgres", "guess"), "select 1")
    stored = "select substr(rolpassword, 1, 5) from pg_authid where rolname = current_user"
    assert (await query(postgres.superuser_url, stored) == "SCRAM") == is_kept
    assert await query(postgres.superuser_url, "show listen_addresses") == "127.0.0.1"
    assert (postgres.folder / "password").stat().st_mode & 0o777 == 0o600
    assert (postgres.folder / "cluster").stat().st_mode & 0o077 == 0
    await postgres.stop_async()


async def test_settings_reach_the_server(tmp_path: Path) -> None:
    server = Postgres(tmp_path, max_connections=33, settings={"work_mem": "5MB"})
    await server.start_async()
    assert await query(server.superuser_url, "show max_connections") == "33"
    assert await query(server.superuser_url, "show work_mem") == "5MB"
    assert await query(server.superuser_url, "show fsync") == "on"
    await server.stop_async()


async def test_server_outlives_the_thread_that_started_it(postgres: Postgres) -> None:
    starter = threading.Thread(target=postgres.start)
    starter.start()
    await asyncio.to_thread(starter.join)
    assert await query(postgres.superuser_url, "select 1") == 1


def test_failed_start_tells_what_the_server_said(tmp_path: Path) -> None:
    server = Postgres(tmp_path, fsync=False, settings={"no_such_setting": "1"})
    with pytest.raises(ServerError, match=r"(?s)postgres ended with 1 while starting.*no_such_setting"):
        server.start()
    assert server.pid is None


def test_half_made_cluster_is_made_anew(postgres: Postgres) -> None:
    (postgres.folder / "cluster.new").mkdir(parents=True)
    (postgres.folder / "cluster.new" / "PG_VERSION").write_text("15")
    postgres.start()
    assert postgres.is_ready()


def test_leftover_of_a_predecessor_is_ended_and_a_recycled_pid_is_not(tmp_path: Path) -> None:
    server = Postgres(tmp_path, fsync=False)
    leftover = subprocess.Popen(["sleep", "600"])
    stranger = subprocess.Popen(["sleep", "600"])
    server.remember(leftover.pid)
    server.end_leftover()
    assert leftover.wait(5) == -signal.SIGKILL
    (tmp_path / "postgres.pid").write_text(f"{stranger.pid} {int(process_table()[stranger.pid][2]) - 1}")
    server.end_leftover()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


OWNER = """
import os, sys
from pathlib import Path
from remit_local.postgres import Postgres
server = Postgres(Path(sys.argv[1]), fsync=False)
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""


def start_and_kill_an_owner(folder: Path) -> list[int]:
    """Start a process that starts the server, kill it, and return all the server's processes."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdin is not None
    assert owner.stdout is not None
    with owner.stdin, owner.stdout:
        members = family(int(owner.stdout.readline()))
        owner.kill()
        owner.wait()
    return members


async def test_kill_9_of_its_owner_leaves_no_process_and_the_next_owner_starts(tmp_path: Path) -> None:
    members = await asyncio.to_thread(start_and_kill_an_owner, tmp_path)
    assert len(members) > 3
    await asyncio.to_thread(wait_until, lambda: not any(map(is_alive, members)), 20, "end of PostgreSQL")
    server = Postgres(tmp_path, fsync=False)
    await server.start_async()
    assert await query(server.superuser_url, "select 1") == 1
    await server.stop_async()
