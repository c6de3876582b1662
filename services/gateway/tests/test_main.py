from __future__ import annotations

from pathlib import Path

import pytest

from chassis.auth import write_keys
from gateway.api.edge import Edge
from gateway.clients.hops import HttpHop
from gateway.main import build
from gateway.settings import Settings
from spine.testing.stage import unstarted

TOLD = {
    "REMIT_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
    "REMIT_AMQP_URL": "amqp://nobody@127.0.0.1:1/",
    "REMIT_STREAM_URL": "rabbitmq-stream://nobody@127.0.0.1:1/",
}


def test_hops_are_read_from_the_environment(tmp_path: Path) -> None:
    write_keys(tmp_path, {"gateway": ("token",)})
    told = {
        "REMIT_GATEWAY_NEXT_HOPS": "identity=http://127.0.0.1:7001/, gateway=http://127.0.0.1:7002",
        "REMIT_GATEWAY_TOKEN_KEY_FILE": str(tmp_path / "gateway.token.pem"),
        "REMIT_GATEWAY_CORS_ORIGINS": "https://a.example,https://b.example",
        "REMIT_GATEWAY_EDGE_PORT": "9000",
    }
    settings = Settings.load("gateway", TOLD | told)
    assert settings.next_hops == {"identity": "http://127.0.0.1:7001", "gateway": "http://127.0.0.1:7002"}
    service = build(settings)
    (door,) = service.doors
    assert (door.host, door.port) == ("127.0.0.1", 9000)
    assert isinstance(door.app, Edge)
    assert isinstance(door.app.hops["identity"], HttpHop)
    assert door.app.hops["gateway"] is service
    assert len(service.closing) == 1


def test_a_token_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    write_keys(tmp_path, {"gateway": ("token",)})
    path = tmp_path / "gateway.token.pem"
    path.chmod(0o644)
    with pytest.raises(PermissionError):
        unstarted(build, Settings, "gateway", token_key_file=path)


def test_without_a_port_there_is_no_public_door() -> None:
    assert not unstarted(build, Settings, "gateway", edge_port=0).doors
