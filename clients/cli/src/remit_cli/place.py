"""Where the CLI finds an edge and a key: the environment, else what `remit up` wrote on this machine."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remit_cli.failures import CliError

DATA = Path(".remit")
DEMO_FILE = "demo.json"
OPERATOR_FILE = "operator.json"
DEFAULT_ROLE = "org_owner"
PLATFORM_ROLE = "platform_admin"


@dataclass(frozen=True)
class Place:
    """An edge, and the key to speak to it with."""

    edge: str
    api_key: str


def find_place(data: Path, role: str | None) -> Place:
    """Return `REMIT_EDGE` and `REMIT_API_KEY`, else what the data folder has for a role; CliError says what to do."""
    edge, key = os.environ.get("REMIT_EDGE", ""), os.environ.get("REMIT_API_KEY", "")
    if key and not role:
        return Place(edge or _edge_of(data), key)
    keys: dict[str, str] = read_demo(data)["api_keys"]
    wanted = role or DEFAULT_ROLE
    if wanted not in keys:
        raise CliError(f"{data / DEMO_FILE} holds no key for the role {wanted!r}; it has: {', '.join(sorted(keys))}")
    return Place(edge or _edge_of(data), keys[wanted])


def read_demo(data: Path) -> dict[str, Any]:
    """Return what `remit up` wrote for the CLI."""
    try:
        found: dict[str, Any] = json.loads((data / DEMO_FILE).read_text())
    except FileNotFoundError:
        raise CliError(
            f"there is no {data / DEMO_FILE}: start Remit here with `remit up`, or set REMIT_EDGE and REMIT_API_KEY"
        ) from None
    return found


def _edge_of(data: Path) -> str:
    return str(read_demo(data)["edge"])
