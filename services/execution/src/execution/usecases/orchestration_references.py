"""What an orchestration's aliases stand for, agents and other orchestrations: checked when saved, pinned when run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import literal, or_, select, tuple_

from chassis.errors import ConflictError, InvalidError
from chassis.uow import UnitOfWork
from execution.domain.agents import AgentSpec, highest_risk
from execution.domain.definitions import agent_of
from execution.domain.nodes import CALL_KINDS
from execution.domain.orchestrations import AgentReference, OrchestrationReference
from execution.domain.revisions import CURRENT, ORCHESTRATION, Revision, is_orchestration
from execution.tables.agents import Agent, AgentVersion
from execution.tables.orchestrations import Orchestration, OrchestrationVersion

AgentIds: TypeAlias = Mapping[str, Mapping[str, str]]
"""`{alias: {id, version}}`, of an orchestration also `kind: orchestration`; version is a number or `current`."""
MAX_AGENTS = 200


class _Noun(NamedTuple):
    name: str
    row: type[Agent | Orchestration]
    version: type[AgentVersion | OrchestrationVersion]
    of: Any
    """Which column of a version says whose it is."""
    scan: Any
    """What its security scan said."""
    risk: Any
    """How much is at risk with it; what runs as a child is asked about by itself."""


_SCAN, _RISK = AgentVersion.security_scan_status, Agent.risk_level
_AGENT = _Noun("agent", Agent, AgentVersion, AgentVersion.agent_id, _SCAN, _RISK)
_OF = OrchestrationVersion.orchestration_id
_CHILD = _Noun(ORCHESTRATION, Orchestration, OrchestrationVersion, _OF, literal(""), literal("low"))


class Pinned(NamedTuple):
    """The exact revision of each alias for one run, and what is known of the agents now."""

    pins: dict[str, dict[str, str]]
    """`{alias: {agent_id or orchestration_id, version_id, semver}}`."""
    risk_level: str
    """The highest of them."""


async def resolve_references(
    uow: UnitOfWork, workspace_id: UUID, revision: Revision, given: AgentIds
) -> dict[str, dict[str, str]]:
    """What each alias stands for, ids for names; InvalidError naming every alias that stands for nothing living there.

    What the definition's own text says goes before what was `given` beside it. InvalidError as well where a step calls
    a tool that its agent does not lend, or runs one that does nothing by itself.
    """
    named = revision.references
    aliases = sorted({*given, *named})
    if len(aliases) > MAX_AGENTS:
        raise InvalidError(f"An orchestration names at most {MAX_AGENTS} agents.", code="too_many_agents")
    children = {alias for alias in aliases if _is_child(named.get(alias), given.get(alias))}
    agents = [alias for alias in aliases if alias not in children]
    found = await _resolve(uow, _AGENT, workspace_id, agents, named, given)
    if children:
        found |= await _resolve(uow, _CHILD, workspace_id, sorted(children), named, given)
    unknown = [alias for alias in aliases if alias not in found]
    if unknown:
        raise InvalidError(
            "These aliases stand for nothing (or no version of it) in the workspace: " + ", ".join(unknown),
            code="unknown_orchestration" if children.issuperset(unknown) else "unknown_agent",
            errors=[_unknown(alias, _CHILD if alias in children else _AGENT) for alias in unknown],
        )
    await _require_tools(uow, revision, found)
    return found


async def pin_references(uow: UnitOfWork, agent_ids: AgentIds) -> Pinned:
    """The exact revision of each alias for one run.

    ConflictError when one is gone, not active, or its revision did not pass the security scan.
    """
    children = {alias: found for alias, found in agent_ids.items() if is_orchestration(found)}
    agents = {alias: found for alias, found in agent_ids.items() if alias not in children}
    pins, risk_level = await _pin(uow, _AGENT, agents)
    if children:
        pins |= (await _pin(uow, _CHILD, children)).pins
    return Pinned(pins, risk_level)


def _is_child(named: AgentReference | None, given: Mapping[str, str] | None) -> bool:
    if named is not None:
        return isinstance(named, OrchestrationReference)
    return given is not None and is_orchestration(given)


def _unknown(alias: str, noun: _Noun) -> dict[str, Any]:
    return {"loc": [f"{noun.name}s", alias], "code": f"unknown_{noun.name}", "message": f"no such {noun.name}"}


async def _require_tools(uow: UnitOfWork, revision: Revision, resolved: AgentIds) -> None:
    called = [node for node in revision.graph["nodes"] if node["kind"] in CALL_KINDS]
    specs = await _specs(uow, {node["agent"]: resolved[node["agent"]] for node in called if node["agent"] in resolved})
    errors = []
    for node in called:
        spec = specs.get(node["agent"])
        message = spec and spec.use_problem(node.get("tool"))
        if message:
            errors.append({"loc": ["steps", node["id"]], "code": "unknown_tool", "message": message})
    if errors:
        shown = "; ".join(f"{error['loc'][1]}: {error['message']}" for error in errors[:3])
        raise InvalidError(f"These steps call what is not there: {shown}", code="unknown_tool", errors=errors)


async def _specs(uow: UnitOfWork, wanted: AgentIds) -> dict[str, AgentSpec]:
    """The definition of the revision that each alias stands for now."""
    version, of = AgentVersion, AgentVersion.agent_id
    ids = {UUID(reference["id"]) for reference in wanted.values()}
    semvers = {reference["version"] for reference in wanted.values()}
    picked = select(of, version.semver, version.is_current, version.config).where(
        of.in_(ids), version.is_current | version.semver.in_(semvers)
    )
    specs: dict[tuple[str, str], AgentSpec] = {}
    for row in await uow.execute(picked):
        specs[str(row.agent_id), row.semver] = spec = agent_of(row.config)
        if row.is_current:
            specs[str(row.agent_id), CURRENT] = spec
    return {alias: specs[found["id"], found["version"]] for alias, found in wanted.items()}


async def _resolve(  # noqa: PLR0917
    uow: UnitOfWork,
    noun: _Noun,
    workspace_id: UUID,
    aliases: Sequence[str],
    named: Mapping[str, AgentReference],
    given: AgentIds,
) -> dict[str, dict[str, str]]:
    """Those of the aliases that stand for something."""
    row = noun.row
    names = [named[alias].name for alias in aliases if alias in named]
    ids = [UUID(given[alias]["id"]) for alias in aliases if alias not in named]
    living = select(row).where(row.workspace_id == workspace_id, row.deleted_at.is_(None))
    rows = await uow.all(living.where(or_(row.name.in_(names), row.id.in_(ids))).limit(2 * MAX_AGENTS))
    by_name, by_id = {one.name: one for one in rows}, {str(one.id): one for one in rows}
    resolved: dict[str, dict[str, str]] = {}
    for alias in aliases:
        reference = named.get(alias)
        one = by_name.get(reference.name) if reference else by_id.get(given[alias]["id"])
        if one is not None:
            version = reference.version if reference else given[alias]["version"]
            resolved[alias] = {"id": str(one.id), "version": version}
            if noun is _CHILD:
                resolved[alias]["kind"] = ORCHESTRATION
    unknown = await _unknown_versions(uow, noun, resolved)
    return {alias: found for alias, found in resolved.items() if alias not in unknown}


async def _pin(uow: UnitOfWork, noun: _Noun, wanted: AgentIds) -> Pinned:
    row, version, of = noun.row, noun.version, noun.of
    numbered = [(UUID(found["id"]), found["version"]) for found in wanted.values() if found["version"] != CURRENT]
    current = [UUID(found["id"]) for found in wanted.values() if found["version"] == CURRENT]
    picked = or_(tuple_(of, version.semver).in_(numbered), version.is_current & of.in_(current))
    columns = (of.label("of"), version.id, version.semver, version.is_current)
    states = (noun.scan.label("scan"), noun.risk.label("risk"), row.status, row.deleted_at, row.name)
    statement = select(*columns, *states).join(row, row.id == of).where(picked)
    found: dict[tuple[str, str], Any] = {}
    for one in await uow.execute(statement.limit(2 * MAX_AGENTS)):
        found[str(one.of), one.semver] = one
        if one.is_current:
            found[str(one.of), CURRENT] = one
    pins: dict[str, dict[str, str]] = {}
    risks = []
    for alias, reference in wanted.items():
        one = _usable(noun.name, alias, found.get((reference["id"], reference["version"])))
        pins[alias] = {f"{noun.name}_id": str(one.of), "version_id": str(one.id), "semver": one.semver}
        risks.append(one.risk)
    return Pinned(pins, highest_risk(risks))


def _usable(noun: str, alias: str, row: Any) -> Any:
    if row is None or row.deleted_at is not None:
        raise ConflictError(f"The {noun} of {alias!r} is gone.", code=f"{noun}_gone")
    if row.status != "active":
        raise ConflictError(f"The {noun} {row.name!r} is {row.status}: only active ones run.", code="not_active")
    if row.scan == "failed":
        raise ConflictError(f"{row.name!r} {row.semver} did not pass its security scan.", code="security_scan_failed")
    return row


async def _unknown_versions(uow: UnitOfWork, noun: _Noun, resolved: AgentIds) -> list[str]:
    wanted = {
        (UUID(found["id"]), found["version"]): alias for alias, found in resolved.items() if found["version"] != CURRENT
    }
    if not wanted:
        return []
    rows = await uow.execute(
        select(noun.of.label("of"), noun.version.semver).where(tuple_(noun.of, noun.version.semver).in_(list(wanted)))
    )
    known = {(row.of, row.semver) for row in rows}
    return [alias for reference, alias in wanted.items() if reference not in known]
