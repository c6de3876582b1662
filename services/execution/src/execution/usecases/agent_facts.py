"""What every change of an agent has in common: its version, and the fact that tells of it."""

from __future__ import annotations

from typing import Any

from chassis.errors import NotFoundError
from chassis.uow import UnitOfWork
from contracts.execution import AgentState
from execution.tables.agents import Agent


def living(agent: Agent) -> Agent:
    """The agent, unless it is deleted: NotFoundError."""
    if agent.deleted_at is not None:
        raise NotFoundError("There is no agent with this id.")
    return agent


def touch(uow: UnitOfWork, agent: Agent) -> None:
    """Note that the agent changed now."""
    agent.version += 1
    agent.updated_at = uow.now


def state_of(
    kind: type[AgentState], agent: Agent, changes: dict[str, list[Any]] | None = None
) -> AgentState:  # fmt: skip
    """The fact of this kind about an agent as it is now."""
    return kind(
        agent_id=agent.id,
        workspace_id=agent.workspace_id,
        version=agent.version,
        name=agent.name,
        agent_type=agent.agent_type,
        status=agent.status,
        risk_level=agent.risk_level,
        current_version=agent.current_version,
        changes=changes or {},
    )
