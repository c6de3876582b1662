"""A private RabbitMQ with streams: own folder, own Erlang port mapper, loopback only, never alive without us."""

import json
import subprocess
from pathlib import Path
from urllib.parse import quote

from remit_local.binaries import epmd_program, rabbitmq_folder
from remit_local.definitions import ADMIN, Definitions, whole_definitions
from remit_local.environment import server_environment
from remit_local.loopback import can_connect, first_answer, kept_port
from remit_local.private_files import kept_secret, write_private
from remit_local.process import Command, ServerError, give_to_server
from remit_local.server import Server

_NODE = "remit@localhost"
_AMQP_GREETING = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"
_ERLANG_ARGUMENTS = (
    # Schedulers that spin while idle steal a small machine; nothing but loopback; no port mapper that outlives us.
    "+sbwt none +sbwtdcpu none +sbwtdio none -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
)
_CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{amqp}
stream.listeners.tcp.1 = 127.0.0.1:{stream}
stream.advertised_host = 127.0.0.1
stream.advertised_port = {stream}
load_definitions = {definitions}
log.console = false
log.file = rabbitmq.log
log.file.level = warning
vm_memory_high_watermark.absolute = {memory}
disk_free_limit.absolute = {disk}
raft.wal_max_size_bytes = 67108864
"""


class Epmd(Server):
    """Erlang's port mapper as a child of ours; the broker's default would be a daemon that outlives everything."""

    name = "epmd"

    @property
    def port(self) -> int:
        """The loopback port; known once the server has been prepared."""
        return int((self.folder / "epmd.port").read_text())

    def prepare(self) -> Command:
        """Settle the port and return the command that starts it in the foreground."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.end_leftover()
        port = kept_port(self.folder / "epmd.port")
        environment = server_environment({"ERL_EPMD_ADDRESS": "127.0.0.1"})
        return Command((epmd_program(), "-port", str(port)), environment, self.folder, unprivileged=True)

    def is_ready(self) -> bool:
        """Tell whether it accepts connections."""
        return can_connect(self.port)


class RabbitMQ(Server):
    """A RabbitMQ node in a folder of its own; streams, queues and users survive stop, kill and restart."""

    name = "rabbitmq"

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        stream_port: int | None = None,
        *,
        definitions: Definitions | None = None,
        memory_limit: str = "512MB",
        disk_free_limit: str = "200MB",
    ) -> None:
        super().__init__(data_dir)
        self.epmd = Epmd(self.folder / "epmd")
        self.definitions: Definitions = definitions or {}
        self._wanted_ports = {"amqp": port, "stream": stream_port, "distribution": None}
        self._limits = {"memory": memory_limit, "disk": disk_free_limit}

    @property
    def amqp_url(self) -> str:
        """The AMQP URL of the administrator on the vhost `/`."""
        return self.url(ADMIN, self._admin_password)

    @property
    def stream_url(self) -> str:
        """The stream-protocol URL of the administrator."""
        return self.url(ADMIN, self._admin_password, scheme="rabbitmq-stream")

    def url(self, user: str, password: str, scheme: str = "amqp") -> str:
        """Return the URL for a user; `scheme` is `amqp` or `rabbitmq-stream`."""
        port = self._port("stream" if scheme == "rabbitmq-stream" else "amqp")
        return f"{scheme}://{quote(user)}:{quote(password, safe='')}@127.0.0.1:{port}/"

    def settle_ports(self) -> None:
        """Choose the ports, so that clients can be told of them before the node runs."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for kind, wanted in self._wanted_ports.items():
            kept_port(self._port_file(kind), wanted)

    def prepare(self) -> Command:
        """Write configuration, definitions and secrets, and return the command that starts the node."""
        for folder in (self.folder, self.folder / "home"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.end_leftover()
        self.settle_ports()
        kept_secret(self.folder / "home" / ".erlang.cookie", 0o400)
        (self.folder / "environment.conf").write_text("")
        (self.folder / "enabled_plugins").write_text("[rabbitmq_stream].\n")
        definitions = self.folder / "definitions.json"
        write_private(definitions, json.dumps(whole_definitions(self._admin_password, self.definitions)))
        (self.folder / "rabbitmq.conf").write_text(
            _CONFIGURATION.format(
                amqp=self._port("amqp"), stream=self._port("stream"), definitions=definitions, **self._limits
            )
        )
        give_to_server(self.folder)
        return self._command("rabbitmq-server")

    def is_ready(self) -> bool:
        """Tell whether the broker answers both protocols."""
        greeted = first_answer(self._port("amqp"), _AMQP_GREETING, 1) == _METHOD_FRAME
        return greeted and can_connect(self._port("stream"))

    def start(self, timeout_seconds: float = 90) -> None:
        """Start the port mapper, then the node; return when it serves."""
        self.epmd.start(timeout_seconds)
        super().start(timeout_seconds)

    def stop(self, timeout_seconds: float = 20) -> None:
        """Stop the node in order, then the port mapper."""
        super().stop(timeout_seconds)
        self.epmd.kill()  # it keeps nothing

    def kill(self) -> None:
        """End the node and the port mapper at once, as a crash would."""
        super().kill()
        self.epmd.kill()

    def declare_users_and_policies(self, definitions: Definitions) -> None:
        """Add users, permissions and policies to the running node; the constructor's `definitions` load faster."""
        self.definitions = definitions
        path = self.folder / "definitions.json"
        write_private(path, json.dumps(whole_definitions(self._admin_password, definitions)))
        give_to_server(self.folder)
        self.control("import_definitions", str(path))

    def control(self, *arguments: str, timeout_seconds: float = 60) -> str:
        """Run `rabbitmqctl` against this node and return what it prints."""
        command = self._command("rabbitmqctl", *arguments)
        outcome = subprocess.run(
            command.launched(),
            env=command.env,
            cwd=command.cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )
        if outcome.returncode:
            message = f"rabbitmqctl {arguments[0]} failed: {outcome.stderr.strip() or outcome.stdout.strip()}"
            raise ServerError(message)
        return outcome.stdout

    @property
    def _admin_password(self) -> str:
        return kept_secret(self.folder / "password")

    def _port(self, kind: str) -> int:
        return int(self._port_file(kind).read_text())

    def _port_file(self, kind: str) -> Path:
        return self.folder / f"{kind}.port"

    def _command(self, program: str, *arguments: str) -> Command:
        argv = (str(rabbitmq_folder() / program), *arguments)
        return Command(argv, server_environment(self._environment()), self.folder, unprivileged=True)

    def _environment(self) -> dict[str, str]:
        return {
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.folder / "home"),
            "RABBITMQ_NODENAME": _NODE,
            "RABBITMQ_NODE_PORT": str(self._port("amqp")),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._port("distribution")),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "environment.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_SCHEMA_DIR": str(self.folder / "schema"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "generated"),
            "RABBITMQ_PID_FILE": str(self.folder / "node.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG_ARGUMENTS,
            "ERL_EPMD_PORT": str(self.epmd.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": "0",
            # The script then becomes the broker instead of waiting for it, so that signals reach it.
            "RUNNING_UNDER_SYSTEMD": "1",
        }
