"""Execution's HTTP door: what its routes share."""

import re
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Request
from pydantic import Field

from chassis.objects import Objects
from chassis.sealing import Keyring
from execution.usecases.run_feeds import RunFeed
from execution.usecases.run_texts import TextDesk
from execution.usecases.wake_ups import WakeUps
from resources.bodies import In, Reference

DefinitionText = Annotated[str, Field(max_length=128 * 1024)]
"""The YAML of an agent or an orchestration."""
DefinitionStatus = Literal["draft", "active", "deprecated"]
_WATCH = re.compile(r"(?:^|[,;\s])watch(?:$|[,;\s])")
VersionNumber = Annotated[str, Field(max_length=64)]


class SetCurrentVersionIn(In):
    """Which revision runs from now on."""

    semver: VersionNumber


class RollbackIn(In):
    """Which revision runs again, and why; without `to` the one that was current before the present one."""

    to: VersionNumber | None = None
    reason: Annotated[str, Field(max_length=500)] = ""


class ApplyIn(In):
    """A file with `metadata` beside the configuration; `workspace` comes before the one in the file."""

    file: DefinitionText
    workspace: Reference | None = None


class AgentIdIn(In):
    """Which agent (or orchestration, to be run as a child) an alias stands for, and at which version."""

    id: UUID
    kind: Literal["agent", "orchestration"] = "agent"
    version: Annotated[str, Field(max_length=64)] = "current"


AgentIds = Annotated[dict[Annotated[str, Field(max_length=63)], AgentIdIn], Field(max_length=200)]


def references_of(agent_ids: dict[str, AgentIdIn]) -> dict[str, dict[str, str]]:
    """The aliases as they are stored."""
    return {
        alias: {"id": str(found.id), "version": found.version} | ({"kind": found.kind} if found.kind != "agent" else {})
        for alias, found in agent_ids.items()
    }


def objects_of(request: Request) -> Objects:
    """Where large payloads are."""
    objects: Objects = request.app.state.objects
    return objects


def wake_ups_of(request: Request) -> WakeUps:
    """How processes tell each other of runs."""
    wake_ups: WakeUps = request.app.state.wake_ups
    return wake_ups


def feed_of(request: Request) -> RunFeed:
    """Where what happens to runs is heard of."""
    feed: RunFeed = request.app.state.feed
    return feed


def desk_of(request: Request) -> TextDesk:
    """Where what models write is heard of."""
    desk: TextDesk = request.app.state.desk
    return desk


async def expect_watcher(request: Request, run_id: UUID, prefer: str) -> None:
    """Where `Prefer` says `watch`: let workers know before they hear of the run; call after its commit."""
    if _WATCH.search(prefer):
        await desk_of(request).expect(run_id)


def keyring_of(request: Request) -> Keyring | None:
    """The keyring this service was started with."""
    keyring: Keyring | None = request.app.state.keyring
    return keyring
