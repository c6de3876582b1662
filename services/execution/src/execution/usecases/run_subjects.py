"""What a run is of: an agent or an orchestration, in its workspace, at one version, with every agent pinned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from chassis.errors import ConflictError, InvalidError
from chassis.uow import UnitOfWork
from execution.domain.compiler import SELF_ALIAS
from execution.domain.definitions import agent_of, orchestration_of
from execution.domain.runs import Limits
from execution.domain.schemas import validate_input
from execution.tables.agents import Agent, AgentVersion
from execution.tables.orchestrations import Orchestration, OrchestrationVersion
from execution.tables.workspaces import Workspace
from execution.usecases import agent_versions, agents, orchestration_versions, orchestrations
from execution.usecases.orchestration_agents import pin_agents
from execution.usecases.workspaces import find_workspace, require_active

Kind = Literal["agent", "orchestration"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What will run, as it stands now."""

    kind: Kind
    definition: Agent | Orchestration
    version: AgentVersion | OrchestrationVersion
    workspace: Workspace
    limits: Limits
    pins: dict[str, dict[str, str]]
    priority: int
    model: str | None
    """The model an agent's run asks; None where there is none or several."""

    def attributes(self) -> dict[str, Any]:
        """What a policy may look at."""
        row = self.definition
        attributes = {
            "name": row.name,
            "workspace": self.workspace.name,
            "workspace_id": str(self.workspace.id),
            "environment_type": self.workspace.environment_type,
            "requires_approval": self.workspace.requires_approval,
            "pii_allowed": self.workspace.pii_allowed,
            "team_id": str(row.team_id or ""),
            "created_by": row.created_by,
            "status": row.status,
            "version": self.version.semver,
            "digest": self.version.digest,
        }
        if isinstance(row, Agent):
            attributes |= {"agent_type": row.agent_type, "risk_level": row.risk_level, "is_public": row.is_public}
        else:
            attributes |= {"pattern": row.pattern, "agent_ids": [str(pin["agent_id"]) for pin in self.pins.values()]}
        return attributes


async def find_subject(
    uow: UnitOfWork, kind: Kind, reference: str, *, workspace: str | None, semver: str
) -> Subject:  # fmt: skip
    """The agent or orchestration with this id or name, ready to be run at a version; refused when it may not run."""
    place = None if workspace is None else await find_workspace(uow, workspace)
    if kind == "agent":
        return await _agent(uow, await agents.find_agent(uow, reference, place), semver)
    return await _orchestration(uow, await orchestrations.find_orchestration(uow, reference, place), semver)


def check_input(subject: Subject, value: Any) -> None:
    """InvalidError with every place where the input does not fit the schema."""
    problems = validate_input(subject.version.config.get("input_schema"), value)
    if problems:
        errors = [
            {"loc": ["input", place.path], "code": "invalid_input", "message": place.message} for place in problems
        ]
        raise InvalidError("The input does not fit the schema.", code="invalid_input", errors=errors)


async def _agent(uow: UnitOfWork, agent: Agent, semver: str) -> Subject:
    agents.require_runnable(agent)
    place = await require_active(uow, agent.workspace_id)
    version = await agent_versions.find_version(uow, agent, semver)
    if version.security_scan_status == "failed":
        detail = f"Version {version.semver} of this agent did not pass its security scan."
        raise ConflictError(detail, code="security_scan_failed")
    spec = agent_of(version.config)
    pin = {"agent_id": str(agent.id), "version_id": str(version.id), "semver": version.semver}
    model = getattr(getattr(spec, "model", None), "name", None)
    return Subject("agent", agent, version, place, spec.limits.limits(), {SELF_ALIAS: pin}, 0, model)


async def _orchestration(uow: UnitOfWork, row: Orchestration, semver: str) -> Subject:
    orchestrations.require_runnable(row)
    place = await require_active(uow, row.workspace_id)
    version = await orchestration_versions.find_version(uow, row, semver)
    spec = orchestration_of(version.config)
    pins = await pin_agents(uow, version.agent_ids)
    return Subject("orchestration", row, version, place, spec.limits.limits(), pins, spec.flow.priority, None)
