"""Which agents an orchestration's aliases stand for: checked when saved, pinned when run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import or_, select, tuple_

from chassis.errors import ConflictError, InvalidError
from chassis.uow import UnitOfWork
from execution.domain.agents import highest_risk
from execution.domain.orchestrations import AgentReference
from execution.domain.revisions import CURRENT
from execution.tables.agents import Agent, AgentVersion

AgentIds: TypeAlias = Mapping[str, Mapping[str, str]]
"""`{alias: {id, version}}`; version is a number or `current`."""
MAX_AGENTS = 200


class Pinned(NamedTuple):
    """The exact revision of each alias for one run, and what is known of the agents now."""

    pins: dict[str, dict[str, str]]
    """`{alias: {agent_id, version_id, semver}}`."""
    risk_level: str
    """The highest of them."""


async def resolve_agents(
    uow: UnitOfWork, workspace_id: UUID, named: Mapping[str, AgentReference], given: AgentIds
) -> dict[str, dict[str, str]]:
    """What each alias stands for, ids for names; InvalidError naming every alias without a living agent there.

    `named` is what the definition's own text says, and goes before what was `given` beside it.
    """
    aliases = {*given, *named}
    if len(aliases) > MAX_AGENTS:
        raise InvalidError(f"An orchestration names at most {MAX_AGENTS} agents.", code="too_many_agents")
    living = select(Agent).where(Agent.workspace_id == workspace_id, Agent.deleted_at.is_(None))
    names = [reference.name for reference in named.values()]
    ids = [UUID(reference["id"]) for reference in given.values()]
    agents = await uow.all(living.where(or_(Agent.name.in_(names), Agent.id.in_(ids))).limit(2 * MAX_AGENTS))
    by_name, by_id = {agent.name: agent for agent in agents}, {str(agent.id): agent for agent in agents}
    resolved: dict[str, dict[str, str]] = {}
    unknown: list[str] = []
    for alias in sorted(aliases):
        reference = named.get(alias)
        agent = by_name.get(reference.name) if reference else by_id.get(given[alias]["id"])
        if agent is None:
            unknown.append(alias)
        else:
            version = reference.version if reference else given[alias]["version"]
            resolved[alias] = {"id": str(agent.id), "version": version}
    unknown += await _unknown_versions(uow, resolved)
    if unknown:
        raise InvalidError(
            "These aliases stand for no agent (or version) of the workspace: " + ", ".join(sorted(unknown)),
            code="unknown_agent",
            errors=[
                {"loc": ["agents", alias], "code": "unknown_agent", "message": "no such agent"} for alias in unknown
            ],
        )
    return resolved


async def pin_agents(uow: UnitOfWork, agent_ids: AgentIds) -> Pinned:
    """The exact revision of each alias for one run.

    ConflictError when an agent is gone, not active, or its revision did not pass the security scan.
    """
    numbered = [(UUID(found["id"]), found["version"]) for found in agent_ids.values() if found["version"] != CURRENT]
    current = [UUID(found["id"]) for found in agent_ids.values() if found["version"] == CURRENT]
    picked = or_(
        tuple_(AgentVersion.agent_id, AgentVersion.semver).in_(numbered),
        AgentVersion.is_current & AgentVersion.agent_id.in_(current),
    )
    columns = (AgentVersion.agent_id, AgentVersion.id, AgentVersion.semver, AgentVersion.is_current)
    states = (AgentVersion.security_scan_status, Agent.status, Agent.deleted_at, Agent.name, Agent.risk_level)
    statement = select(*columns, *states).join(Agent, Agent.id == AgentVersion.agent_id).where(picked)
    found: dict[tuple[str, str], Any] = {}
    for row in await uow.execute(statement.limit(2 * MAX_AGENTS)):
        found[str(row.agent_id), row.semver] = row
        if row.is_current:
            found[str(row.agent_id), CURRENT] = row
    pins: dict[str, dict[str, str]] = {}
    risks = []
    for alias, wanted in agent_ids.items():
        row = _usable(alias, found.get((wanted["id"], wanted["version"])))
        pins[alias] = {"agent_id": str(row.agent_id), "version_id": str(row.id), "semver": row.semver}
        risks.append(row.risk_level)
    return Pinned(pins, highest_risk(risks))


def _usable(alias: str, row: Any) -> Any:
    if row is None or row.deleted_at is not None:
        raise ConflictError(f"The agent of {alias!r} is gone.", code="agent_gone")
    if row.status != "active":
        raise ConflictError(f"The agent {row.name!r} is {row.status}: only active ones run.", code="not_active")
    if row.security_scan_status == "failed":
        raise ConflictError(f"{row.name!r} {row.semver} did not pass its security scan.", code="security_scan_failed")
    return row


async def _unknown_versions(uow: UnitOfWork, resolved: AgentIds) -> list[str]:
    wanted = {
        (UUID(found["id"]), found["version"]): alias for alias, found in resolved.items() if found["version"] != CURRENT
    }
    if not wanted:
        return []
    key = tuple_(AgentVersion.agent_id, AgentVersion.semver)
    rows = await uow.execute(select(AgentVersion.agent_id, AgentVersion.semver).where(key.in_(list(wanted))))
    known = {(row.agent_id, row.semver) for row in rows}
    return [alias for reference, alias in wanted.items() if reference not in known]
