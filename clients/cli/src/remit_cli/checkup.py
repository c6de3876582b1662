"""What could be wrong on this machine, looked at one by one."""

import json
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from remit_cli.status_view import STOPPED, status_of
from remit_local.binaries import find_rabbitmq, postgres_folder
from remit_local.embedded_model import is_installed
from remit_local.process import ServerError

LEAST_FREE_BYTES = 1_000_000_000
ANSWER_SECONDS = 5


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    fine: bool
    said: str


def examine(folder: Path) -> list[Finding]:
    """Look at everything Remit needs here, and at a running one."""
    return [*_machine(folder), *_secrets(folder), *_running(folder)]


def _machine(folder: Path) -> Iterator[Finding]:
    yield Finding("Python", sys.version_info >= (3, 11), sys.version.split()[0])
    try:
        yield Finding("PostgreSQL", True, str(postgres_folder()))
    except ServerError as error:
        yield Finding("PostgreSQL", False, str(error))
    rabbitmq = find_rabbitmq()
    yield Finding(
        "RabbitMQ", rabbitmq is not None, str(rabbitmq or "not installed; `remit up` installs it or says how")
    )
    said = "installed" if is_installed() else "not installed; `remit up` without --no-demo fetches it"
    yield Finding("embedded model", True, said)
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    yield Finding("disk", free >= LEAST_FREE_BYTES, f"{free / 1e9:.1f} GB free at {place}")


def _secrets(folder: Path) -> Iterator[Finding]:
    if not folder.exists():
        return
    open_ones = [path for path in _private(folder) if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    said = "only you can read them" if not open_ones else f"others can read {', '.join(map(str, open_ones))}: chmod 600"
    yield Finding("secrets", not open_ones, said)


def _private(folder: Path) -> list[Path]:
    named = (folder / name for name in ("demo.json", "operator.json", "model.key"))
    kept = (*folder.glob("keys/*.pem"), *folder.glob("keys/*.keyring"), *folder.glob("passwords/*"))
    return [path for path in (*named, *kept) if path.exists()]


def _running(folder: Path) -> Iterator[Finding]:
    found = status_of(folder)
    if found["state"] == STOPPED:
        yield Finding("Remit", True, "not running; `remit up` starts it")
        return
    yield Finding("Remit", found["state"] == "ready", found["state"])
    for name, child in found["children"].items():
        fine = child["state"] in ("ready", "done") and not child["trouble"]
        if not fine:
            yield Finding(name, False, f"{child['state']}: {child['trouble']}; `remit logs {name}`")
    if "edge" in found:
        yield _edge(str(found["edge"]))


def _edge(address: str) -> Finding:
    try:
        with urlopen(f"{address}/readyz", timeout=ANSWER_SECONDS) as answer:  # noqa: S310  (our own edge)
            state = json.load(answer)
    except (OSError, ValueError) as error:
        return Finding("edge", False, f"{address} cannot serve: {error}")
    degraded = state.get("degraded") or []
    return Finding("edge", not degraded, f"degraded: {json.dumps(degraded)}" if degraded else address)
