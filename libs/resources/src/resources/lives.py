"""Rows that are retired instead of deleted: hidden from everything but the list of the deleted, and brought back."""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

from chassis.db import Row
from chassis.errors import NotFoundError
from chassis.uow import UnitOfWork
from resources.patches import touch

R = TypeVar("R", bound=Row)


async def get_living(uow: UnitOfWork, row: type[R], row_id: UUID, *, lock: bool = False) -> R:
    """The row with this id; NotFoundError for a deleted one, as for none and for a stranger's."""
    found: Any = await uow.get(row, row_id, lock=lock)
    if found.deleted_at is not None:
        raise _missing(row)
    return found  # type: ignore[no-any-return]  # read as Any for its column deleted_at


def retire(uow: UnitOfWork, row: Row) -> None:
    """Delete a row in a way that can be undone: `deleted_at` says since when."""
    retired: Any = row
    retired.deleted_at = uow.now
    touch(uow, row)


async def restore(uow: UnitOfWork, row: Row, *, conflict: str) -> bool:
    """Bring a locked row back; returns whether it was deleted at all.

    `conflict` is the detail of the ConflictError (code `already_exists`) when its natural key was taken meanwhile.
    """
    found: Any = row
    if found.deleted_at is None:
        return False
    found.deleted_at = None
    touch(uow, found)
    await uow.add(found, conflict=conflict)
    return True


def _missing(row: type[Row]) -> NotFoundError:
    return NotFoundError(f"There is no {row.__tablename__.replace('_', ' ')} with this id.")
