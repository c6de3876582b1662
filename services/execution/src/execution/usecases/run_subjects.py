"""What a run is of: an agent or an orchestration, in its workspace, at one version, with every agent pinned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute

from chassis.errors import ConflictError, InvalidError, NotFoundError
from chassis.uow import UnitOfWork
from execution.domain.agents import McpAgent
from execution.domain.compiler import SELF_ALIAS
from execution.domain.definitions import agent_of, orchestration_of
from execution.domain.flows import Flow, Groups, groups_of
from execution.domain.kills import Engaged, KillScope, require_not_killed
from execution.domain.revisions import CURRENT
from execution.domain.runs import Limits
from execution.domain.schemas import validate_input
from execution.tables.agents import Agent, AgentVersion
from execution.tables.kill_switches import KillSwitch
from execution.tables.orchestrations import Orchestration, OrchestrationVersion
from execution.tables.workspaces import Workspace
from execution.usecases.orchestration_references import pin_references
from execution.usecases.workspaces import STANDING, as_id, find_workspace

Kind = Literal["agent", "orchestration"]
R = TypeVar("R", Agent, Orchestration)
V = TypeVar("V", AgentVersion, OrchestrationVersion)


# In the statement that finds the subject, because every start of a run pays for each round trip; nearly always null.
_ENGAGED = (
    select(
        func.json_agg(
            func.json_build_object("id", KillSwitch.id, "scope", KillSwitch.scope, "target_id", KillSwitch.target_id)
        )
    )
    .where(KillSwitch.released_at.is_(None))
    .scalar_subquery()
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What will run, as it stands now."""

    kind: Kind
    definition: Agent | Orchestration
    version: AgentVersion | OrchestrationVersion
    workspace: Workspace
    limits: Limits
    pins: dict[str, dict[str, str]]
    flow: Flow
    """How its runs are let in."""
    model: str | None
    """The model an agent's run asks; None where there is none or several."""
    risk_level: str
    """The agent's; of an orchestration the highest of its agents'."""

    def killed_by(self) -> dict[KillScope, set[UUID]]:
        """By scope, what a kill switch that stops it would name."""
        pins = self.pins.values()
        return {
            KillScope.ORGANIZATION: {self.workspace.organization_id},
            KillScope.WORKSPACE: {self.workspace.id},
            KillScope.AGENT: {UUID(pin["agent_id"]) for pin in pins if "agent_id" in pin},
            KillScope.VERSION: {self.version.id, *(UUID(pin["version_id"]) for pin in pins)},
        }

    def groups(self, value: Any) -> Groups:
        """Among which runs one with this input is counted; InvalidError where the input has no value for a key."""
        return groups_of(self.flow, self.definition.id, value)

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
            "encryption_required": self.workspace.encryption_required,
            "risk_level": self.risk_level,
            "team_id": str(row.team_id or ""),
            "created_by": row.created_by,
            "status": row.status,
            "version": self.version.semver,
            "digest": self.version.digest,
        }
        if isinstance(row, Agent):
            attributes |= {"agent_type": row.agent_type, "is_public": row.is_public}
        else:
            agents = [pin["agent_id"] for pin in self.pins.values() if "agent_id" in pin]
            attributes |= {"pattern": row.pattern, "agent_ids": agents}
        return attributes


async def find_subject(
    uow: UnitOfWork, kind: Kind, reference: str, *, workspace: str | None, semver: str
) -> Subject:  # fmt: skip
    """The agent or orchestration with this id or name, ready to be run at a version; refused when it may not run."""
    place = None if workspace is None else await find_workspace(uow, workspace)
    if kind == "agent":
        agents = Agent, AgentVersion, AgentVersion.agent_id
        agent, version, workspace_row, engaged = await _load(uow, *agents, reference, place, semver)
        subject = _agent(agent, version, workspace_row)
    else:
        orchestrations = Orchestration, OrchestrationVersion, OrchestrationVersion.orchestration_id
        row, revision, workspace_row, engaged = await _load(uow, *orchestrations, reference, place, semver)
        subject = await _orchestration(uow, row, revision, workspace_row)
    require_not_killed(engaged, subject.killed_by())
    return subject


def check_input(subject: Subject, value: Any) -> None:
    """InvalidError with every place where the input does not fit the schema."""
    problems = validate_input(subject.version.config.get("input_schema"), value)
    if problems:
        errors = [
            {"loc": ["input", place.path], "code": "invalid_input", "message": place.message} for place in problems
        ]
        raise InvalidError("The input does not fit the schema.", code="invalid_input", errors=errors)


async def _load(  # noqa: PLR0917  (which tables, and what is looked for in them)
    uow: UnitOfWork,
    row: type[R],
    version: type[V],
    parent: InstrumentedAttribute[UUID],
    reference: str,
    place: Workspace | None,
    semver: str,
) -> tuple[R, V, Workspace, list[Engaged]]:
    """The thing, its version and its workspace in one statement: every start of a run pays for each round trip."""
    wanted = as_id(reference)
    named = row.id == wanted if wanted else row.name == reference
    of = version.id == row.current_version_id if semver == CURRENT else (parent == row.id) & (version.semver == semver)
    statement = select(row, version, Workspace, _ENGAGED).outerjoin(version, of)
    statement = statement.outerjoin(Workspace, Workspace.id == row.workspace_id).where(named, row.deleted_at.is_(None))
    if place is not None:
        statement = statement.where(row.workspace_id == place.id)
    found = await uow.execute(statement.limit(2))
    noun = row.__tablename__
    if len(found) > 1:
        raise InvalidError(f"Several workspaces have one {noun} of this name: say which.", code="workspace_required")
    if not found:
        raise NotFoundError(f"There is no {noun} {reference!s:.100}.")
    thing, revision, workspace, switches = found[0]
    if thing.status != "active":
        raise ConflictError(f"The {noun} {thing.name!r} is {thing.status}: only active ones run.", code="not_active")
    if workspace is None or workspace.status not in STANDING:
        raise ConflictError("The workspace of this is gone: nothing may be made or run in it.", code="workspace_gone")
    if revision is None:
        raise NotFoundError(f"There is no version {semver!s:.80} of the {noun} {thing.name!r}.")
    engaged_now = [Engaged(UUID(each["id"]), each["scope"], UUID(each["target_id"])) for each in switches or ()]
    return thing, revision, workspace, engaged_now


def _agent(agent: Agent, version: AgentVersion, place: Workspace) -> Subject:
    if version.security_scan_status == "failed":
        detail = f"Version {version.semver} of this agent did not pass its security scan."
        raise ConflictError(detail, code="security_scan_failed")
    spec = agent_of(version.config)
    if isinstance(spec, McpAgent) and spec.tool is None:
        detail = "This agent has tools and does nothing by itself: name one of them in a step of an orchestration."
        raise InvalidError(detail, code="only_tools")
    pin = {"agent_id": str(agent.id), "version_id": str(version.id), "semver": version.semver}
    model = getattr(getattr(spec, "model", None), "name", None)
    limits, pins = spec.limits.limits(), {SELF_ALIAS: pin}
    return Subject("agent", agent, version, place, limits, pins, spec.flow, model, agent.risk_level)


async def _orchestration(
    uow: UnitOfWork, row: Orchestration, version: OrchestrationVersion, place: Workspace
) -> Subject:  # fmt: skip
    spec = orchestration_of(version.config)
    pins, risk = await pin_references(uow, version.agent_ids)
    return Subject("orchestration", row, version, place, spec.limits.limits(), pins, spec.flow, None, risk)
