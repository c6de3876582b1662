"""The statements that cross organizations, and why.

- `all_organizations(after, most)`: the platform lists its tenants, and restating visits every one. A page at a time.
- `platform_organization()`: bootstrap must know whether the operator's organization exists before it is in any.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from sqlalchemy import func, select

from chassis.uow import UnitOfWork
from contracts.envelope import Fact
from contracts.identity import ApiKeyRestated, OrganizationRestated, UserRestated, WorkspaceRestated
from identity.tables import Row
from identity.tables.api_keys import ApiKey
from identity.tables.organizations import Organization
from identity.tables.users import User
from identity.tables.workspaces import Workspace

_NIL = UUID(int=0)
_PAGE = 500


async def list_organizations(uow: UnitOfWork, *, after: UUID | None, limit: int) -> Sequence[Organization]:
    """The platform's tenants in the order of their making, one more than `limit` where there are more."""
    return await _organizations(uow, after or _NIL, limit + 1)


async def find_platform_organization(uow: UnitOfWork) -> UUID | None:
    """The operator's organization; None before bootstrap."""
    found: UUID | None = await uow.first(select(func.platform_organization()))
    return found


def restater(row: type[Row], fact: type[Fact]) -> Callable[[UnitOfWork, UUID | None], Awaitable[int]]:
    """A function that publishes all rows of a noun again, of one organization or of all."""

    async def restate(uow: UnitOfWork, organization_id: UUID | None) -> int:
        count = 0
        for each in [organization_id] if organization_id else await _ids(uow):
            await uow.become(uow.caller.within(each))
            rows = await uow.all(select(row))  # row security narrows it to this organization
            for found in rows:
                uow.emit(fact.of(found))
            count += len(rows)
        return count

    return restate


RESTATE = {
    "organization": restater(Organization, OrganizationRestated),
    "user": restater(User, UserRestated),
    "workspace": restater(Workspace, WorkspaceRestated),
    "api_key": restater(ApiKey, ApiKeyRestated),
}


async def _organizations(uow: UnitOfWork, after: UUID, most: int) -> Sequence[Organization]:
    statement = select(Organization).from_statement(
        select(func.all_organizations(after, most).table_valued(*Organization.__table__.columns.keys()))
    )
    found: Sequence[Organization] = await uow.all(statement)
    return found


async def _ids(uow: UnitOfWork) -> list[UUID]:
    ids: list[UUID] = []
    after = _NIL
    while page := await _organizations(uow, after, _PAGE):
        ids += [organization.id for organization in page]
        after = page[-1].id
    return ids
