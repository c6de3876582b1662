"""Rollbacks: an earlier version runs again. Runs under way stay on what they pinned when they started."""

from __future__ import annotations

from uuid import UUID

from chassis.errors import ConflictError
from chassis.uow import UnitOfWork
from contracts.releases import AgentRolledBack, OrchestrationRolledBack
from execution.domain.scans import FAILED
from execution.tables.agents import Agent
from execution.tables.orchestrations import Orchestration
from execution.usecases import agent_versions, orchestration_versions
from resources.lives import get_living


async def rollback_agent(uow: UnitOfWork, agent_id: UUID, *, to: str | None, reason: str) -> Agent:
    """Make the version that was current before, or the one named, current again; twice changes nothing more.

    ConflictError `no_earlier_version` where there is none, `security_scan_failed` for one that could not run.
    """
    agent = await get_living(uow, Agent, agent_id, lock=True)
    before = agent_versions.standing_of(agent)
    after = before.rolled_back(to)
    if after == before:
        return agent
    version = await agent_versions.find_version(uow, agent, after.current)
    if version.security_scan_status == FAILED:
        detail = f"Version {version.semver} did not pass its security scan and could not run: name another."
        raise ConflictError(detail, code="security_scan_failed")
    await agent_versions.point_at(uow, agent, version, after)
    changes = {"current_version": [before.current, after.current]}
    uow.emit(AgentRolledBack.of(agent, changes=changes, reason=reason))
    return agent


async def rollback_orchestration(
    uow: UnitOfWork, orchestration_id: UUID, *, to: str | None, reason: str
) -> Orchestration:
    """Make the version that was current before, or the one named, current again; twice changes nothing more.

    ConflictError `no_earlier_version` where there is none.
    """
    orchestration = await get_living(uow, Orchestration, orchestration_id, lock=True)
    before = orchestration_versions.standing_of(orchestration)
    after = before.rolled_back(to)
    if after == before:
        return orchestration
    version = await orchestration_versions.find_version(uow, orchestration, after.current)
    await orchestration_versions.point_at(uow, orchestration, version, after)
    changes = {"current_version": [before.current, after.current]}
    uow.emit(OrchestrationRolledBack.of(orchestration, changes=changes, reason=reason))
    return orchestration
