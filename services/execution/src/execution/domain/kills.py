"""Which kill switch forbids a run to start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from chassis.errors import ConflictError


class KillScope(StrEnum):
    """What a switch stops everything of."""

    ORGANIZATION = "organization"
    WORKSPACE = "workspace"
    AGENT = "agent"
    VERSION = "version"
    RUN = "run"


class Engaged(NamedTuple):
    """A switch that has not been released."""

    id: UUID
    scope: str
    target_id: UUID


def require_not_killed(engaged: Iterable[Engaged], targets: Mapping[KillScope, Iterable[UUID]]) -> None:
    """ConflictError `killed`, naming the switch, where one of these is what would be run.

    `targets` are by scope the things a run would be of: its organization, workspace, agents and versions.
    """
    for switch in engaged:
        if switch.target_id in targets.get(KillScope(switch.scope), ()):
            raise ConflictError(
                f"The kill switch {switch.id} stops every run of this {switch.scope} until it is released.",
                code="killed",
            )
