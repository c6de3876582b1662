"""Making something be as given, found by its natural key: safe to repeat, safe beside somebody doing the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import select

from chassis.db import Row
from chassis.errors import ConflictError, ForbiddenError, NotFoundError
from chassis.permits import Permit
from chassis.uow import UnitOfWork

R = TypeVar("R", bound=Row)
ALREADY_EXISTS = "already_exists"


class Applied(NamedTuple, Generic[R]):
    """What applying a file came to."""

    row: R
    changed: list[str]
    """created, version, and the fields that are different now; empty when all was so already."""


def require_update(may_update: Permit, row: Row) -> None:
    """ForbiddenError when the caller may make such things but not change this one."""
    found: Any = row
    attributes = {"created_by": found.created_by, "workspace_id": str(found.workspace_id), "name": found.name}
    try:
        may_update.check(row.__tablename__, str(found.id), attributes)
    except NotFoundError:
        raise ForbiddenError(f"Somebody else's {row.__tablename__} has this name.", code="not_yours") from None


async def upsert(
    uow: UnitOfWork,
    row: type[R],
    key: Mapping[str, Any],
    *,
    create: Callable[[], Awaitable[R]],
    update: Callable[[R], Awaitable[R]],
) -> tuple[R, bool]:
    """Update the row with this natural key, or create it; returns it, and whether it was created.

    `create` refuses a taken key by ConflictError `already_exists`, as `uow.add(row, conflict=...)` does: then somebody
    else was faster, and the row is updated after all. A retired row has no claim to its key. ConflictError also where
    the row exists and the caller's right does not reach it.
    """
    found = await _find(uow, row, key)
    if found is None:
        try:
            async with uow.savepoint():
                return await create(), True
        except ConflictError as conflict:
            if conflict.code != ALREADY_EXISTS:
                raise
            found = await _find(uow, row, key)
            if found is None:
                raise
    return await update(found), False


async def _find(uow: UnitOfWork, row: type[R], key: Mapping[str, Any]) -> R | None:
    columns = row.__table__.c
    statement = select(columns.id).where(*(columns[name] == value for name, value in key.items()))
    if "deleted_at" in columns:
        statement = statement.where(columns.deleted_at.is_(None))
    row_id = await uow.first(statement.limit(1))
    if row_id is None:
        return None
    try:
        return await uow.get(row, row_id, lock=True)
    except NotFoundError:
        detail = "Somebody else has one of this name."
        raise ConflictError(detail, code=ALREADY_EXISTS) from None
