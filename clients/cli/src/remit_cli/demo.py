"""A first organization to try things in: made once through the edge, its keys kept in the data folder."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remit_cli.edge import Edge
from remit_cli.failures import CliError, RefusedError
from remit_cli.place import DEFAULT_ROLE, DEMO_FILE, OPERATOR_FILE, PLATFORM_ROLE, Place
from remit_local.private_files import write_private

ROLES = ("org_admin", "developer", "operator", "viewer")
"""The roles that get a key beside the owner's."""
PATIENCE_SECONDS = 30
_NOT_YET = frozenset({401, 409, 429, 503})
"""What the edge says of something so new that its services have not all heard of it."""


async def ensure_demo(folder: Path, edge: str) -> dict[str, Any]:
    """Return the demo's organization and keys; made the first time, and again where its data are gone.

    Each secret is written down before anything else is asked for, so that a crash in between loses none.
    """
    found = _read(folder / DEMO_FILE)
    if found is None or not await _is_known(Place(edge, found["api_keys"][DEFAULT_ROLE])):
        found = await _make_organization(folder, edge)
    found["edge"] = edge
    _write(folder, found)
    async with Edge(Place(edge, found["api_keys"][DEFAULT_ROLE])) as owner:
        me = await patiently(lambda: owner.get("/v1/me"))
        found["workspaces"] = {each["name"]: each["id"] for each in me["workspaces"]}
        for role in ROLES:
            if role not in found["api_keys"]:
                made = await patiently(lambda: owner.post("/v1/api-keys", {"name": f"demo {role}", "role": role}))  # noqa: B023
                found["api_keys"][role] = made["api_key"]
                _write(folder, found)
    _write(folder, found)
    return found


async def patiently(ask: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS) -> Any:
    """Ask until the edge knows what was made a moment ago; give up after a while with its last answer."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await ask()
        except RefusedError as error:
            if error.status not in _NOT_YET or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.1)


def remember(folder: Path, **fields: Any) -> None:
    """Add fields to the demo file."""
    found = _read(folder / DEMO_FILE)
    if found is not None:
        _write(folder, found | fields)


async def _make_organization(folder: Path, edge: str) -> dict[str, Any]:
    operator = _read(folder / OPERATOR_FILE)
    if operator is None:
        raise CliError(f"there is no {folder / OPERATOR_FILE}: `remit bootstrap` makes it")
    async with Edge(Place(edge, operator["api_key"])) as platform:
        made = await patiently(lambda: _create(platform))
    keys = {DEFAULT_ROLE: made["api_key"], PLATFORM_ROLE: operator["api_key"]}
    found = {"edge": edge, "organization_id": made["id"], "workspaces": {}, "api_keys": keys}
    _write(folder, found)
    return found


async def _create(platform: Edge) -> Any:
    """Slugs are unique for ever: one that a lost demo file left behind is passed over."""
    for number in range(1, 1000):
        slug = "demo" if number == 1 else f"demo-{number}"
        body = {"name": "Demo", "slug": slug, "owner_email": f"owner@{slug}.localhost", "owner_name": "Demo owner"}
        try:
            return await platform.post("/v1/organizations", body)
        except RefusedError as error:
            if error.status != 409 or error.code == "not_yet_known":
                raise
    raise CliError("there are a thousand demo organizations already")


async def _is_known(place: Place) -> bool:
    async with Edge(place) as owner:
        try:
            await patiently(lambda: owner.get("/v1/me"), seconds=5)
        except RefusedError:
            return False
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return found


def _write(folder: Path, found: dict[str, Any]) -> None:
    write_private(folder / DEMO_FILE, json.dumps(found, indent=1) + "\n")
