"""Allowed hosts: the organization's own list of where its agents may send something."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import func, select

from chassis.errors import LimitExceededError
from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.releases import AllowedHostCreated, AllowedHostDeleted
from execution.tables.allowed_hosts import AllowedHost
from resources.listing import Resource, counter, lister

ALLOWED_HOSTS = Resource(
    AllowedHost, filters=("id", "host", "created_by", "created_at"), sorts=("created_at", "host"), search=("host",)
)
list_allowed_hosts = lister(ALLOWED_HOSTS)
count_allowed_hosts = counter(ALLOWED_HOSTS)
MAX_ALLOWED_HOSTS = 500
TAKEN = "This host is in the list already."


async def create_allowed_host(uow: UnitOfWork, *, host: str) -> AllowedHost:
    """Let agents name a host; versions saved from now on are scanned with it, those there are stay as they were."""
    await _require_room(uow)
    row = AllowedHost(
        id=new_id(),
        organization_id=uow.organization_id,
        host=host,
        created_by=uow.caller.owner_id,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
    await uow.add(row, conflict=TAKEN)
    uow.emit(AllowedHostCreated.of(row))
    return row


async def get_allowed_host(uow: UnitOfWork, allowed_host_id: UUID) -> AllowedHost:
    """One host of the list."""
    return await uow.get(AllowedHost, allowed_host_id)


async def delete_allowed_host(uow: UnitOfWork, allowed_host_id: UUID) -> None:
    """Take a host from the list; versions that name it run on, new ones fail their scan."""
    row = await uow.get(AllowedHost, allowed_host_id, lock=True)
    await uow.delete(row)
    uow.emit(AllowedHostDeleted.of(row))


async def known_hosts(uow: UnitOfWork) -> Collection[str]:
    """The whole list; empty where the organization keeps none."""
    mine = AllowedHost.organization_id == uow.organization_id
    return frozenset(await uow.all(select(AllowedHost.host).where(mine).limit(MAX_ALLOWED_HOSTS)))


async def _require_room(uow: UnitOfWork) -> None:
    """Two that arrive together must not both take the last place."""
    name = f"allowed_host/{uow.organization_id}"
    await uow.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
    count = await uow.first(select(func.count()).where(AllowedHost.organization_id == uow.organization_id))
    if count >= MAX_ALLOWED_HOSTS:
        raise LimitExceededError(f"A list has at most {MAX_ALLOWED_HOSTS} hosts.", code="too_many_allowed_hosts")
