import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deploy.local.tests.platform.test_containers import SETTINGS

from contracts.catalog import SERVICES
from remit_local.platform.edge_port import settle_edge_port
from remit_local.platform.installation import Installation
from remit_local.platform.roster import children_of
from remit_local.platform.turns import TURN, announce_turn, turn_to_wait_for
from remit_local.process import ServerError


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    made = Installation(tmp_path / "data")
    made.settle_ports()
    return made


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("alone", [True, False])
def test_each_service_starts_with_what_it_is_told(service: str, alone: bool, installation: Installation) -> None:  # noqa: FBT001
    told = installation.whole_environment(own_ports=alone) | installation.model_environment()
    settings = SETTINGS[service].load(service, told)
    assert settings.host == "127.0.0.1"
    assert (settings.port != 0) == alone
    assert f"remit_{service}" in settings.database_url.get_secret_value()


def test_no_two_roles_share_a_password(installation: Installation) -> None:
    passwords = [password for service in SERVICES for password in installation.database_roles(service).values()]
    passwords += [installation.password(f"broker_{service}") for service in SERVICES]
    assert len(set(passwords)) == len(passwords)


def test_every_secret_is_private_to_its_owner(installation: Installation) -> None:
    installation.whole_environment(own_ports=True)
    for file in (installation.folder / "passwords").iterdir():
        assert file.stat().st_mode & 0o077 == 0


def _rights(installation: Installation, service: str) -> dict[str, str]:
    permissions = installation.broker_users()["permissions"]
    found = next(each for each in permissions if each["user"] == f"remit_{service}")
    return {kind: str(found[kind]) for kind in ("configure", "write", "read")}


def test_a_service_publishes_only_its_own_facts_and_nobody_writes_the_default_exchange(
    installation: Installation,
) -> None:
    for service in SERVICES:
        rights = _rights(installation, service)
        for other in SERVICES:
            assert bool(re.search(rights["write"], f"facts.{other}")) == (other == service)
            assert re.search(rights["read"], f"facts.{other}")
            assert bool(re.search(rights["read"], f"work.{other}.resend_facts.v1")) == (other == service)
        assert not re.search(rights["write"], "amq.default")
        assert bool(re.search(rights["write"], "engine.runs")) == (service == "execution")


def test_texts_may_pass_between_executions_own_processes(installation: Installation) -> None:
    rights, queue = _rights(installation, "execution"), "replies.execution.texts.0123456789abcdef"
    assert all(re.search(rights[kind], queue) for kind in ("configure", "write", "read"))
    assert re.search(rights["write"], "live")
    assert re.search(rights["read"], "live")
    assert not re.search(rights["configure"], "live")


def test_ports_are_kept_while_they_are_free(installation: Installation) -> None:
    kept = installation.service_port("audit")
    installation.settle_ports()
    assert installation.service_port("audit") == kept
    with socket.create_server(("127.0.0.1", kept)):
        installation.settle_ports()
        assert installation.service_port("audit") != kept


def test_services_are_stopped_before_what_they_stand_on(installation: Installation) -> None:
    children = {child.name: child for child in children_of(installation, processes=True, with_model=True)}
    assert children["remit"].after == ("prepare",)
    assert set(children["prepare"].after) == {"postgres", "epmd", "rabbitmq"}


def test_a_wanted_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"{port}.*--port"):
            settle_edge_port(tmp_path, port)


def test_the_edge_keeps_its_port_or_says_which_one_it_takes_instead(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert settle_edge_port(tmp_path, port) == (port, "")
    assert settle_edge_port(tmp_path, None) == (port, "")
    with socket.create_server(("127.0.0.1", port)):
        other, note = settle_edge_port(tmp_path, None)
    assert other > port
    assert str(port) in note
    assert str(other) in note


def test_a_process_that_came_early_waits_for_its_own_turn(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = [
        sys.executable,
        "-c",
        "from remit_local.platform.turns import await_turn; await_turn(); print('my turn')",
    ]
    environment = {**os.environ, **turn_to_wait_for(installation)}
    monkeypatch.setenv(TURN, "of an earlier start")
    announce_turn(installation)
    with subprocess.Popen(waiting, env=environment, stdout=subprocess.PIPE, text=True) as early:
        time.sleep(1)
        assert early.poll() is None
        monkeypatch.setenv(TURN, installation.turn)
        announce_turn(installation)
        said, _ = early.communicate(timeout=20)
    assert said == "my turn\n"
