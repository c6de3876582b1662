"""The pytest plugin: one set of servers per session, also under xdist; nothing left behind."""

import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import pytest

from remit_local import testing
from remit_local.environment import whole_environment
from remit_local.loopback import can_connect
from remit_local.testing import Servers

INNER_TEST = """
import pytest
from pathlib import Path

@pytest.mark.parametrize("number", range(4))
def test_asks(servers, number, worker_id):
    Path({folder!r}, f"{{worker_id}}-{{number}}").write_text(" ".join(vars(servers).values()))
"""
CONFIGURED = dict.fromkeys(("REMIT_TEST_POSTGRES_URL", "REMIT_TEST_AMQP_URL", "REMIT_TEST_STREAM_URL"), "")


@pytest.mark.anyio
async def test_session_servers_answer_with_administrator_rights(servers: Servers) -> None:
    database = await asyncpg.connect(servers.postgres_url)
    assert await database.fetchval("select rolsuper from pg_roles where rolname = current_user")
    await database.close()
    async with await aio_pika.connect(servers.amqp_url) as bus:
        channel = await bus.channel()
        queue = await channel.declare_queue(exclusive=True)
        await channel.default_exchange.publish(aio_pika.Message(b"hello"), queue.name)
        received = await queue.get(timeout=10)
        assert received.body == b"hello"
    stream = urlsplit(servers.stream_url)
    assert stream.scheme == "rabbitmq-stream"
    assert stream.port
    assert can_connect(stream.port)


def run_inner(folder: Path, source: str, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_inner.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "remit_local.testing", *options, str(folder)],
        env=whole_environment({**CONFIGURED, "TMPDIR": str(folder), **settings}),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.seconds(300)
def test_workers_share_one_pair_which_ends_with_the_session() -> None:
    # A path of our own: that of a socket may have a hundred characters only.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told = folder / "told"
        told.mkdir()
        source = INNER_TEST.format(folder=str(told))
        outcome = run_inner(folder, source, "-n", "2", REMIT_TEST_SERVERS="private")
        assert outcome.returncode == 0, outcome.stdout
        assert len({path.name.partition("-")[0] for path in told.iterdir()}) == 2
        [urls] = {path.read_text() for path in told.iterdir()}
        assert not any(can_connect(urlsplit(url).port or 0) for url in urls.split())
        assert not list(folder.glob("remit-tests-*"))


def test_configured_servers_are_taken_as_they_are(tmp_path: Path) -> None:
    source = "def test_it(servers):\n    assert vars(servers) == dict(postgres_url='p', amqp_url='a', stream_url='s')"
    configured = dict(zip(CONFIGURED, "pas", strict=True))
    assert run_inner(tmp_path, source, **configured).returncode == 0


def test_half_a_configuration_is_refused(tmp_path: Path) -> None:
    outcome = run_inner(tmp_path, "def test_it(servers): pass", REMIT_TEST_AMQP_URL="amqp://localhost/")
    assert outcome.returncode != 0
    assert "REMIT_TEST_STREAM_URL" in outcome.stdout + outcome.stderr


def test_nothing_starts_when_no_test_asks(tmp_path: Path) -> None:
    source = "import pathlib\ndef test_it():\n    assert not list(pathlib.Path('.').glob('remit-tests-*'))"
    assert run_inner(tmp_path, source, REMIT_TEST_SERVERS="private").returncode == 0


def test_folders_of_killed_sessions_are_removed_and_those_of_living_ones_kept(tmp_path: Path) -> None:
    owner = testing.SessionServers(tmp_path)
    address = Path(owner.address())
    dead = tmp_path / "remit-tests-dead"
    dead.mkdir()
    (dead / "owner").write_text("1 0")
    other = testing.SessionServers(tmp_path)
    other.address()
    assert not dead.exists()
    assert address.exists()
    owner.close()
    other.close()
    assert list(tmp_path.iterdir()) == []
