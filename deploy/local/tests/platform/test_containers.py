import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from audit.settings import Settings as AuditSettings
from billing.settings import Settings as BillingSettings
from chassis.auth import Trust
from chassis.settings import ServiceSettings
from contracts.catalog import SERVICES
from execution.settings import Settings as ExecutionSettings
from gateway.settings import Settings as GatewaySettings
from identity.settings import Settings as IdentitySettings
from policy.settings import Settings as PolicySettings
from remit_local.platform.containers import HANDED_OUT, SERVICE_PORT, Containers, is_secret
from remit_local.platform.installation import MAX_CONNECTIONS, Installation

ROOT = Path(__file__).resolve().parents[4]
SETTINGS: Mapping[str, type[ServiceSettings]] = {
    "identity": IdentitySettings,
    "billing": BillingSettings,
    "policy": PolicySettings,
    "gateway": GatewaySettings,
    "execution": ExecutionSettings,
    "audit": AuditSettings,
}
ONLY_IN_CONTAINERS = {"HOST", "EDGE_HOST", "EMBEDDED_MODEL_URL", "EMBEDDED_MODEL_KEY_FILE"}
"""Addresses beyond loopback; and the model's, which on one machine is told only where it runs."""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


@pytest.fixture
def containers(tmp_path: Path) -> Containers:
    return Containers(tmp_path / "state")


@pytest.fixture
def handed_out(containers: Containers, tmp_path: Path) -> Path:
    containers.hand_out(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("service", SERVICES)
def test_compose_tells_each_service_what_it_is_told_on_one_machine(
    service: str, compose: dict[str, Any], containers: Containers, tmp_path: Path
) -> None:
    told = compose["services"][service]
    assert told["environment"] == containers.container_environment(service)
    assert told["command"] == [service, "all"]
    local = Installation(tmp_path / "local")
    local.settle_ports()
    here, there = local.settings(service, alone=True), containers.settings(service, alone=True)
    assert set(there) - ONLY_IN_CONTAINERS == set(here)


def test_each_container_mounts_its_own_secrets_and_only_the_edge_is_published(compose: dict[str, Any]) -> None:
    for name in (*SERVICES, "model", "postgres", "rabbitmq"):
        mounted = [volume for volume in compose["services"][name]["volumes"] if "-secrets" in volume]
        assert mounted == [f"{name}-secrets:{HANDED_OUT}:ro"]
    assert [name for name, service in compose["services"].items() if "ports" in service] == ["gateway"]
    assert compose["services"]["postgres"]["command"][-1] == f"max_connections={MAX_CONNECTIONS}"
    assert set(compose["services"]) == {*SERVICES, "hand-out", "prepare", "postgres", "rabbitmq", "model"}


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_handed_out_is_what_a_service_can_start_with(
    service: str, containers: Containers, handed_out: Path
) -> None:
    environment = {
        name: value.replace(str(HANDED_OUT), str(handed_out / service))
        for name, value in containers.container_environment(service).items()
    }
    settings = SETTINGS[service].load(service, environment)
    assert settings.database_url.get_secret_value() == containers.database_url(service)
    assert settings.port == SERVICE_PORT
    assert settings.key_file is not None
    assert settings.key_file.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert settings.trust_file is not None
    assert {key.service for key in Trust.read(settings.trust_file).keys.values()} == set(SERVICES)


def test_no_container_is_handed_anothers_secrets(containers: Containers, handed_out: Path) -> None:
    for service in SERVICES:
        held = "".join(file.read_text() for file in (handed_out / service).iterdir())
        own = {name for name in containers.settings(service, alone=True) if is_secret(name)}
        assert len(list((handed_out / service).iterdir())) == len(own)
        for other in SERVICES:
            foreign = containers.password(f"broker_{other}")
            assert (foreign in held) == (other == service)


def test_the_broker_is_handed_one_user_per_service_without_clear_passwords(
    containers: Containers, handed_out: Path
) -> None:
    text = (handed_out / "rabbitmq" / "definitions.json").read_text()
    names = {user["name"] for user in json.loads(text)["users"]}
    assert names == {"remit_admin", *(f"remit_{service}" for service in SERVICES)}
    assert not any(containers.password(f"broker_{service}") in text for service in SERVICES)


def test_handing_out_again_changes_no_secret(containers: Containers, handed_out: Path, tmp_path: Path) -> None:
    containers.hand_out(tmp_path / "again")
    for file in sorted((handed_out / "execution").iterdir()):
        assert (tmp_path / "again" / "execution" / file.name).read_bytes() == file.read_bytes()


def test_docker_compose_and_hadolint_find_nothing_wrong() -> None:
    tools = Path(sys.executable).parent
    checks = [
        [tools / "docker-compose", "--file", ROOT / "docker-compose.yml", "config", "--quiet"],
        [tools / "hadolint", ROOT / "Dockerfile"],
    ]
    for check in checks:
        assert shutil.which(str(check[0])), f"{check[0]} belongs to the developers' tools"
        outcome = subprocess.run(list(map(str, check)), capture_output=True, text=True, check=False, cwd=ROOT)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
