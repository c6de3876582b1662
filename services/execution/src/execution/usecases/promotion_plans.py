"""What a promotion takes, and doing it: a version is copied, unchanged, into the next workspace."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select

from chassis.errors import ConflictError
from chassis.uow import UnitOfWork
from contracts.releases import AgentPromoted
from execution.domain.promotions import Promotion, There, plan_promotion, require_path
from execution.tables.agents import Agent, AgentVersion
from execution.tables.workspaces import Workspace
from execution.usecases import agent_versions
from execution.usecases.agents import add_agent
from execution.usecases.workspaces import find_workspace
from resources.lives import get_living
from resources.upserts import Applied


class Planned(NamedTuple):
    """A version that may go to a workspace."""

    source: Agent
    """Locked, and before the one it goes to."""
    version: AgentVersion
    place: Workspace
    target: Agent | None
    """The agent there, locked; None where it is yet to be made."""
    plan: Promotion

    @property
    def needs_approval(self) -> bool:
        """Whether there is something to be done, in a workspace that wants to be asked."""
        wants = self.place.requires_approval or bool(self.place.required_approvers)
        return wants and self.plan is not Promotion.NOTHING


async def plan_agent_promotion(
    uow: UnitOfWork, agent_id: UUID, *, to_workspace: str | UUID, semver: str
) -> Planned:  # fmt: skip
    """What bringing a version of an agent there takes.

    ConflictError by `require_path` and `plan_promotion`, and `security_scan_failed` where the version did not pass its
    scan.
    """
    # Locked, so that of two that arrive together the second sees what the first has done, or asked for.
    source = await get_living(uow, Agent, agent_id, lock=True)
    place = await find_workspace(uow, to_workspace)
    require_path(from_workspace=source.workspace_id, promotion_from=place.promotion_from)
    version = await agent_versions.find_version(uow, source, semver)
    _require_passed(version)
    target = await _agent_there(uow, place.id, source.name)
    there = None if target is None else await _what_is_there(uow, target, version.semver)
    return Planned(source, version, place, target, plan_promotion(version.semver, version.digest, there))


async def carry_out(uow: UnitOfWork, planned: Planned) -> Applied[Agent]:
    """Do what is planned; ConflictError `security_scan_failed` where the version would not pass today's scan."""
    source, version, place, target, plan = planned
    if plan is Promotion.NOTHING and target is not None:
        return Applied(target, [])
    copied: dict[str, Any] = {
        "semver": version.semver, "change_summary": version.change_summary, "promoted_from": version.id,
    }  # fmt: skip
    revision = agent_versions.revision_of(version)
    changed = ["created" if target is None else "version"]
    if target is None:
        target, copy = await add_agent(uow, place.id, source.name, revision, _fields(source), **copied)
    elif plan is Promotion.SAVE:
        copy = await agent_versions.add_version(uow, target, revision, **copied)
    else:
        copy = await _point_again(uow, target, version.semver)
    _require_passed(copy)
    uow.emit(
        AgentPromoted.of(
            target,
            agent_version_id=copy.id,
            digest=copy.digest,
            from_agent_id=source.id,
            from_workspace_id=source.workspace_id,
            promoted_from=version.id,
        )
    )
    return Applied(target, changed)


async def _agent_there(uow: UnitOfWork, workspace_id: UUID, name: str) -> Agent | None:
    named = (Agent.workspace_id == workspace_id) & (Agent.name == name) & Agent.deleted_at.is_(None)
    found: UUID | None = await uow.first(select(Agent.id).where(named))
    return None if found is None else await get_living(uow, Agent, found, lock=True)


async def _what_is_there(uow: UnitOfWork, target: Agent, semver: str) -> There:
    same = (AgentVersion.agent_id == target.id) & (AgentVersion.semver == semver)
    digest: str | None = await uow.first(select(AgentVersion.digest).where(same))
    return There(target.current_version, await agent_versions.highest_semver(uow, target), digest)


async def _point_again(uow: UnitOfWork, target: Agent, semver: str) -> AgentVersion:
    there = await agent_versions.find_version(uow, target, semver)
    await agent_versions.point_at(uow, target, there, agent_versions.standing_of(target).moved(there.semver))
    return there


def _fields(source: Agent) -> dict[str, Any]:
    """What is said of an agent where it is made."""
    names = ("description", "team_id", "risk_level", "status")
    return {name: getattr(source, name) for name in names}


def _require_passed(version: AgentVersion) -> None:
    if not version.has_passed_scan:
        detail = f"Version {version.semver} did not pass its security scan, or would not pass today's."
        raise ConflictError(detail, code="security_scan_failed")
