"""PostgreSQL and RabbitMQ in containers, for test sessions on machines with a container engine."""

import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import get_docker_host

from remit_local.loopback import can_connect, first_answer, free_port
from remit_local.process import wait_until

_PASSWORD = "for-tests-only"  # noqa: S105 the containers serve loopback and one test session
_DEFAULT_ENGINE = "unix:///var/run/docker.sock"
_STARTUP_SECONDS = 180


def engine_answers() -> bool:
    """Tell whether a container engine is here and answers."""
    where = urlsplit(get_docker_host() or _DEFAULT_ENGINE)
    if where.scheme != "unix":
        return True  # somebody configured it: its errors are worth seeing
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(3)
        try:
            connection.connect(where.path)
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
        except OSError:
            return False


def start_containers(cleanup: ExitStack, folder: Path) -> tuple[str, str, str]:
    """Start both servers, register their end, and return the PostgreSQL, AMQP and stream URLs."""
    return (_start_postgres(cleanup), *_start_rabbitmq(cleanup, folder))


def _start_postgres(cleanup: ExitStack) -> str:
    port = free_port()
    container = DockerContainer("postgres:17").with_bind_ports(5432, port).with_env("POSTGRES_PASSWORD", _PASSWORD)
    container.with_command("postgres -c fsync=off -c full_page_writes=off -c max_connections=300")
    cleanup.enter_context(container)
    # The image starts a first server without TCP while it initializes, so an answer means the final one.
    ssl_request = bytes([0, 0, 0, 8, 4, 210, 22, 47])
    wait_until(lambda: first_answer(port, ssl_request, 1) == b"N", _STARTUP_SECONDS, "answer of the PostgreSQL image")
    return f"postgresql://postgres:{_PASSWORD}@127.0.0.1:{port}/postgres"


def _start_rabbitmq(cleanup: ExitStack, folder: Path) -> tuple[str, str]:
    port, stream_port = free_port(), free_port()
    (folder / "enabled_plugins").write_text("[rabbitmq_stream].\n")
    (folder / "90-remit.conf").write_text(
        f"stream.advertised_host = 127.0.0.1\nstream.advertised_port = {stream_port}\n"
        f"default_user = remit_admin\ndefault_pass = {_PASSWORD}\n"
    )
    container = DockerContainer("rabbitmq:4-management").with_bind_ports(5672, port).with_bind_ports(5552, stream_port)
    container.with_volume_mapping(folder / "enabled_plugins", "/etc/rabbitmq/enabled_plugins")
    container.with_volume_mapping(folder / "90-remit.conf", "/etc/rabbitmq/conf.d/90-remit.conf")
    cleanup.enter_context(container)
    greeting = b"AMQP\x00\x00\x09\x01"
    wait_until(lambda: first_answer(port, greeting, 1) == b"\x01", _STARTUP_SECONDS, "answer of the RabbitMQ image")
    wait_until(lambda: can_connect(stream_port), _STARTUP_SECONDS, "stream port of the RabbitMQ image")
    who = f"remit_admin:{_PASSWORD}@127.0.0.1"
    return f"amqp://{who}:{port}/", f"rabbitmq-stream://{who}:{stream_port}/"
