"""Keeps a platform alive on its data folder: in this process until a signal, or detached from the terminal.

`python -m remit_local.platform.keep DIR --port N [--processes] [--model]` is what a detached platform runs as.
"""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from remit_local.environment import whole_environment
from remit_local.installs import ensure_embedded_model, ensure_postgres, ensure_rabbitmq
from remit_local.platform.installation import Installation
from remit_local.platform.roster import SERVICES as SERVICES_CHILD
from remit_local.platform.roster import children_of
from remit_local.process import ServerError
from remit_local.supervisor import Supervisor

OUTPUT = "supervisor.log"


def install_missing(progress: Callable[[str], None], *, with_model: bool) -> None:
    """Install into the project, or as root into the system, what a platform needs and this machine lacks."""
    ensure_postgres(progress)
    ensure_rabbitmq(progress)
    if with_model:
        ensure_embedded_model(progress)


async def keep(
    installation: Installation,
    *,
    processes: bool,
    with_model: bool,
    when_ready: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run the platform until SIGINT or SIGTERM; a second signal ends everything at once."""
    children = children_of(installation, processes=processes, with_model=with_model)
    supervisor = Supervisor(installation.folder, children)  # from here on the folder is ours
    installation.settle_ports()
    supervisor.tell(edge=installation.edge, processes=processes, model=with_model)
    await supervisor.run(when_ready)


async def prepare_alone(installation: Installation) -> None:
    """Start the servers, bring databases, queues and keys to what this version needs, and stop the servers."""
    children = [
        child for child in children_of(installation, processes=False, with_model=False) if child.name != SERVICES_CHILD
    ]
    supervisor = Supervisor(installation.folder, children)
    installation.settle_ports()

    async def done() -> None:
        supervisor.ask_to_stop()

    await supervisor.run(done)


def detach(installation: Installation, *, processes: bool, with_model: bool) -> subprocess.Popen[bytes]:
    """Start the platform as a process of its own that outlives this one and its terminal."""
    flags = [*(["--processes"] if processes else []), *(["--model"] if with_model else [])]
    arguments = (str(installation.folder), "--port", str(installation.edge_port), *flags)
    logs = installation.folder / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    with (logs / OUTPUT).open("wb") as output:
        return subprocess.Popen(
            installation.python("remit_local.platform.keep", *arguments),
            env=whole_environment({}),
            cwd=installation.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def main() -> None:
    """Run a detached platform."""
    parser = argparse.ArgumentParser(description="Keep a Remit platform running on a data folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--model", action="store_true")
    chosen = parser.parse_args()
    installation = Installation(chosen.folder, edge_port=chosen.port)
    try:
        asyncio.run(keep(installation, processes=chosen.processes, with_model=chosen.model))
    except ServerError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
