"""Versions of orchestrations: immutable, named by number and digest, with the agents they were saved for."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Update, select, update

from chassis.errors import NotFoundError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.execution import OrchestrationUpdated, OrchestrationVersionCreated
from execution.domain.revisions import CURRENT, Revision, Standing, read_orchestration, wanted_number
from execution.tables.orchestrations import Orchestration, OrchestrationVersion
from execution.usecases.orchestration_references import AgentIds, resolve_references
from resources.listing import ListQuery, Page, Resource, lister
from resources.lives import get_living
from resources.patches import touch
from resources.versions import require_version

ORCHESTRATION_VERSIONS = Resource(OrchestrationVersion, filters=("semver", "digest", "is_current", "created_at"))
_list_versions = lister(ORCHESTRATION_VERSIONS)


async def create_orchestration_version(
    uow: UnitOfWork,
    orchestration_id: UUID,
    *,
    config_yaml: str,
    agent_ids: AgentIds | None,
    change_summary: str,
    semver: str | None,
) -> OrchestrationVersion:
    """Save a new revision and make it the current one; what it already says changes nothing.

    Without `agent_ids` (or `agents` in the text) the aliases keep standing for the agents they stand for now.
    """
    orchestration = await get_living(uow, Orchestration, orchestration_id, lock=True)
    kept = orchestration.agent_ids if agent_ids is None else agent_ids
    revision = read_orchestration(config_yaml, kept)
    resolved = await resolve_references(uow, orchestration.workspace_id, revision, kept)
    current = await current_version(uow, orchestration)
    if current.digest == revision.digest and current.agent_ids == resolved:
        return current
    number = wanted_number(await highest_semver(uow, orchestration), semver)
    return await add_version(
        uow, orchestration, revision, agent_ids=resolved, semver=number, change_summary=change_summary
    )


async def set_current_orchestration_version(
    uow: UnitOfWork, orchestration_id: UUID, *, semver: str, expected_version: int | None
) -> Orchestration:
    """Make an earlier revision the one that runs from now on; the current one again changes nothing."""
    orchestration = await get_living(uow, Orchestration, orchestration_id, lock=True)
    require_version(orchestration.version, expected_version)
    wanted = await find_version(uow, orchestration, semver)
    if wanted.is_current:
        return orchestration
    before = orchestration.current_version
    await point_at(uow, orchestration, wanted, standing_of(orchestration).moved(wanted.semver))
    uow.emit(OrchestrationUpdated.of(orchestration, changes={"current_version": [before, semver]}))
    return orchestration


async def get_orchestration_version(uow: UnitOfWork, orchestration_id: UUID, semver: str) -> OrchestrationVersion:
    """One revision by its number, or the current one by the word `current`."""
    return await find_version(uow, await get_living(uow, Orchestration, orchestration_id), semver)


async def list_orchestration_versions(uow: UnitOfWork, orchestration_id: UUID, query: ListQuery) -> Page:
    """The revisions of one orchestration, the newest first."""
    orchestration = await get_living(uow, Orchestration, orchestration_id)
    return await _list_versions(uow, query, orchestration_id=orchestration.id)


async def add_version(
    uow: UnitOfWork,
    orchestration: Orchestration,
    revision: Revision,
    *,
    agent_ids: dict[str, Any],
    semver: str,
    change_summary: str,
) -> OrchestrationVersion:
    """Save another revision of an orchestration whose row is locked, make it current and say so."""
    before = orchestration.current_version
    await uow.execute(_no_current(orchestration), {})
    orchestration.current_version_id, orchestration.pattern = new_id(), revision.kind
    standing = standing_of(orchestration).moved(semver)
    orchestration.current_version, orchestration.previous_version, orchestration.rolled_back_from = standing
    orchestration.config_yaml = revision.text
    orchestration.agent_ids = agent_ids
    touch(uow, orchestration)
    version = await save_version(uow, orchestration, revision, change_summary=change_summary)
    uow.emit(OrchestrationUpdated.of(orchestration, changes={"current_version": [before, semver]}))
    return version


async def save_version(
    uow: UnitOfWork, orchestration: Orchestration, revision: Revision, *, change_summary: str
) -> OrchestrationVersion:
    """Insert the revision that the orchestration's row already points at."""
    version = OrchestrationVersion(
        id=orchestration.current_version_id,
        organization_id=orchestration.organization_id,
        orchestration_id=orchestration.id,
        workspace_id=orchestration.workspace_id,
        semver=orchestration.current_version,
        digest=revision.digest,
        config_yaml=revision.text,
        config=revision.config,
        graph=revision.graph,
        change_summary=change_summary,
        created_by=uow.caller.owner_id,
        is_current=True,
        agent_ids=orchestration.agent_ids,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
    await uow.add(version, conflict=f"There is already a version {version.semver} of this orchestration.")
    uow.emit(OrchestrationVersionCreated.of(version))
    return version


async def current_version(uow: UnitOfWork, orchestration: Orchestration) -> OrchestrationVersion:
    """The revision that runs when nobody names another."""
    found = await uow.find(OrchestrationVersion, orchestration.current_version_id)
    if found is None:
        raise NotFoundError("This orchestration has no current version.")
    return found


async def find_version(uow: UnitOfWork, orchestration: Orchestration, semver: str) -> OrchestrationVersion:
    """One revision of an orchestration by its number, or the current one."""
    if semver == CURRENT:
        return await current_version(uow, orchestration)
    of = OrchestrationVersion.orchestration_id == orchestration.id
    statement = select(OrchestrationVersion).where(of, OrchestrationVersion.semver == semver)
    found: OrchestrationVersion | None = await uow.first(statement)
    if found is None:
        raise NotFoundError(f"There is no version {semver!s:.80} of the orchestration {orchestration.name!r}.")
    return found


async def highest_semver(uow: UnitOfWork, orchestration: Orchestration) -> str:
    """The number of the revision saved last: the next one is above it, whichever is current."""
    order = OrchestrationVersion.created_at.desc(), OrchestrationVersion.id.desc()
    of = OrchestrationVersion.orchestration_id == orchestration.id
    statement = select(OrchestrationVersion.semver).where(of).order_by(*order).limit(1)
    return str(await uow.first(statement))


def standing_of(orchestration: Orchestration) -> Standing:
    """Which version is current, and how that came."""
    return Standing(orchestration.current_version, orchestration.previous_version, orchestration.rolled_back_from)


async def point_at(
    uow: UnitOfWork, orchestration: Orchestration, version: OrchestrationVersion, standing: Standing
) -> None:  # fmt: skip
    """Make a revision the current one of an orchestration whose row is locked."""
    await uow.execute(_no_current(orchestration), {})
    version.is_current, version.updated_at, version.version = True, uow.now, version.version + 1
    orchestration.current_version, orchestration.previous_version, orchestration.rolled_back_from = standing
    orchestration.current_version_id = version.id
    orchestration.config_yaml, orchestration.agent_ids = version.config_yaml, version.agent_ids
    orchestration.pattern = version.config["pattern"]
    touch(uow, orchestration)
    await uow.flush()


def _no_current(orchestration: Orchestration) -> Update:
    """First none is current, then one: two at once are against the index."""
    return (
        update(OrchestrationVersion)
        .where(OrchestrationVersion.orchestration_id == orchestration.id, OrchestrationVersion.is_current)
        .values(is_current=False)
        .execution_options(synchronize_session="fetch")
    )
