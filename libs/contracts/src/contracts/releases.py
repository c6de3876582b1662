"""Facts of execution about which version runs where: taken back."""

from __future__ import annotations

from typing import ClassVar

from contracts.execution import AgentState, OrchestrationState


class AgentRolledBack(AgentState):
    """An earlier version of an agent runs again; `changes` says from which to which."""

    type: ClassVar = "execution.agent.rolled_back.v1"

    reason: str = ""


class OrchestrationRolledBack(OrchestrationState):
    """An earlier version of an orchestration runs again; `changes` says from which to which."""

    type: ClassVar = "execution.orchestration.rolled_back.v1"

    reason: str = ""
