"""Versions of agents: immutable, named by number and digest, scanned when saved."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Update, select, update

from chassis.errors import NotFoundError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.execution import AgentUpdated, AgentVersionCreated
from execution.domain.revisions import CURRENT, Revision, Standing, read_agent, wanted_number
from execution.tables.agents import Agent, AgentVersion
from execution.usecases.allowed_hosts import known_hosts
from resources.listing import ListQuery, Page, Resource, lister
from resources.lives import get_living
from resources.patches import touch
from resources.versions import require_version

AGENT_VERSIONS = Resource(AgentVersion, filters=("semver", "digest", "is_current", "created_at"))
_list_versions = lister(AGENT_VERSIONS)


async def create_agent_version(
    uow: UnitOfWork, agent_id: UUID, *, config_yaml: str, change_summary: str, semver: str | None
) -> AgentVersion:
    """Save a new revision and make it the current one; the configuration it already has changes nothing."""
    agent = await get_living(uow, Agent, agent_id, lock=True)
    revision = read_agent(config_yaml)
    current = await current_version(uow, agent)
    if current.digest == revision.digest:
        return current
    number = wanted_number(await highest_semver(uow, agent), semver)
    return await add_version(uow, agent, revision, semver=number, change_summary=change_summary)


async def set_current_agent_version(
    uow: UnitOfWork, agent_id: UUID, *, semver: str, expected_version: int | None
) -> Agent:
    """Make an earlier revision the one that runs from now on; the current one again changes nothing."""
    agent = await get_living(uow, Agent, agent_id, lock=True)
    require_version(agent.version, expected_version)
    wanted = await find_version(uow, agent, semver)
    if wanted.is_current:
        return agent
    before = agent.current_version
    await point_at(uow, agent, wanted, standing_of(agent).moved(wanted.semver))
    uow.emit(AgentUpdated.of(agent, changes={"current_version": [before, semver]}))
    return agent


async def get_agent_version(uow: UnitOfWork, agent_id: UUID, semver: str) -> AgentVersion:
    """One revision by its number, or the current one by the word `current`."""
    return await find_version(uow, await get_living(uow, Agent, agent_id), semver)


async def list_agent_versions(uow: UnitOfWork, agent_id: UUID, query: ListQuery) -> Page:
    """The revisions of one agent, the newest first."""
    agent = await get_living(uow, Agent, agent_id)
    return await _list_versions(uow, query, agent_id=agent.id)


async def add_version(
    uow: UnitOfWork,
    agent: Agent,
    revision: Revision,
    *,
    semver: str,
    change_summary: str,
    promoted_from: UUID | None = None,
) -> AgentVersion:
    """Save another revision of an agent whose row is locked, make it current and say so."""
    before = agent.current_version
    await uow.execute(_no_current(agent), {})
    agent.current_version_id, agent.agent_type = new_id(), revision.kind
    agent.current_version, agent.previous_version, agent.rolled_back_from = standing_of(agent).moved(semver)
    agent.config_yaml = revision.text
    touch(uow, agent)
    version = await save_version(uow, agent, revision, change_summary=change_summary, promoted_from=promoted_from)
    uow.emit(AgentUpdated.of(agent, changes={"current_version": [before, semver]}))
    return version


async def save_version(
    uow: UnitOfWork, agent: Agent, revision: Revision, *, change_summary: str, promoted_from: UUID | None = None
) -> AgentVersion:
    """Insert the revision that the agent's row already points at."""
    version = AgentVersion(
        id=agent.current_version_id,
        organization_id=agent.organization_id,
        agent_id=agent.id,
        workspace_id=agent.workspace_id,
        semver=agent.current_version,
        digest=revision.digest,
        config_yaml=revision.text,
        config=revision.config,
        graph=revision.graph,
        change_summary=change_summary,
        created_by=uow.caller.owner_id,
        is_current=True,
        **revision.scan(await known_hosts(uow)),
        promoted_from=promoted_from,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
    await uow.add(version, conflict=f"There is already a version {version.semver} of this agent.")
    uow.emit(AgentVersionCreated.of(version))
    return version


async def current_version(uow: UnitOfWork, agent: Agent) -> AgentVersion:
    """The revision that runs when nobody names another."""
    found = await uow.find(AgentVersion, agent.current_version_id)
    if found is None:
        raise NotFoundError("This agent has no current version.")
    return found


async def find_version(uow: UnitOfWork, agent: Agent, semver: str) -> AgentVersion:
    """One revision of an agent by its number, or the current one."""
    if semver == CURRENT:
        return await current_version(uow, agent)
    statement = select(AgentVersion).where(AgentVersion.agent_id == agent.id, AgentVersion.semver == semver)
    found: AgentVersion | None = await uow.first(statement)
    if found is None:
        raise NotFoundError(f"There is no version {semver!s:.80} of the agent {agent.name!r}.")
    return found


def revision_of(version: AgentVersion) -> Revision:
    """What a version was saved from, to be saved again elsewhere unchanged."""
    return Revision(
        text=version.config_yaml,
        kind=version.config["kind"],
        config=version.config,
        digest=version.digest,
        graph=version.graph,
        metadata=None,
        references={},
    )


async def highest_semver(uow: UnitOfWork, agent: Agent) -> str:
    """The number of the revision saved last: the next one is above it, whichever is current."""
    order = AgentVersion.created_at.desc(), AgentVersion.id.desc()
    statement = select(AgentVersion.semver).where(AgentVersion.agent_id == agent.id).order_by(*order).limit(1)
    return str(await uow.first(statement))


def standing_of(agent: Agent) -> Standing:
    """Which version is current, and how that came."""
    return Standing(agent.current_version, agent.previous_version, agent.rolled_back_from)


async def point_at(
    uow: UnitOfWork, agent: Agent, version: AgentVersion, standing: Standing
) -> None:  # fmt: skip
    """Make a revision the current one of an agent whose row is locked."""
    await uow.execute(_no_current(agent), {})
    version.is_current, version.updated_at, version.version = True, uow.now, version.version + 1
    agent.current_version, agent.previous_version, agent.rolled_back_from = standing
    agent.current_version_id, agent.config_yaml = version.id, version.config_yaml
    agent.agent_type = version.config["kind"]
    touch(uow, agent)
    await uow.flush()


def _no_current(agent: Agent) -> Update:
    """First none is current, then one: two at once are against the index."""
    return (
        update(AgentVersion)
        .where(AgentVersion.agent_id == agent.id, AgentVersion.is_current)
        .values(is_current=False)
        .execution_options(synchronize_session="fetch")
    )
