"""Facts of execution about which version may run, and which runs where."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from contracts.envelope import Fact
from contracts.execution import AgentState, OrchestrationState


class AgentRolledBack(AgentState):
    """An earlier version of an agent runs again; `changes` says from which to which."""

    type: ClassVar = "execution.agent.rolled_back.v1"

    reason: str = ""


class OrchestrationRolledBack(OrchestrationState):
    """An earlier version of an orchestration runs again; `changes` says from which to which."""

    type: ClassVar = "execution.orchestration.rolled_back.v1"

    reason: str = ""


class AllowedHostState(Fact):
    """A host that agents of the organization may name, or everything below one."""

    subject_field: ClassVar = "allowed_host_id"

    allowed_host_id: UUID
    version: int
    host: str


class AllowedHostCreated(AllowedHostState):
    """From now on versions that name this host may pass their scan."""

    type: ClassVar = "execution.allowed_host.created.v1"


class AllowedHostDeleted(AllowedHostState):
    """From now on versions that name this host fail their scan, unless no list is left."""

    type: ClassVar = "execution.allowed_host.deleted.v1"
