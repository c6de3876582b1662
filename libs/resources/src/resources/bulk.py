"""Many changes in one request: each is kept or undone alone, and each has a result of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field

from chassis.errors import RefusalError, TooLargeError, UnavailableError
from chassis.rules import DeniedError, record_denial
from chassis.uow import UnitOfWork
from contracts.chassis import REFUSED

MAX_ITEMS = 1_000
Item = TypeVar("Item")
Out = TypeVar("Out")

Items = Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS)]
"""The items of a bulk request's body: `items: Items[CreateTeamIn]`."""


@dataclass(frozen=True, slots=True)
class BulkResult(Generic[Out]):
    """What became of one item: `item`, or the refusal with its code."""

    index: int
    status: int
    item: Out | None = None
    code: str = ""
    detail: str = ""
    errors: Sequence[dict[str, Any]] = ()
    refusal: RefusalError | None = None


class DeletedOut(BaseModel):
    """What was retired."""

    id: UUID


class BulkItemOut(BaseModel, Generic[Out]):
    """What became of one item of the request."""

    index: int = Field(description="Its place in the request, from 0.")
    status: int = Field(description="What the item alone would have been answered with.")
    item: Out | None = None
    code: str = ""
    detail: str = ""
    errors: list[dict[str, Any]] = []


class BulkOut(BaseModel, Generic[Out]):
    """What became of each item, in the order of the request."""

    succeeded: int
    refused: int
    results: list[BulkItemOut[Out]]

    @classmethod
    def of(cls, results: Sequence[BulkResult[Out]]) -> BulkOut[Out]:
        """The answer for these results."""
        items = [
            BulkItemOut[Out](
                index=one.index, status=one.status, item=one.item, code=one.code, detail=one.detail,
                errors=list(one.errors),
            )
            for one in results
        ]  # fmt: skip
        refused = sum(1 for one in results if one.code)
        return cls(succeeded=len(items) - refused, refused=refused, results=items)


async def bulk(
    uow: UnitOfWork,
    items: Sequence[Item],
    do: Callable[[Item], Awaitable[Out]],
    *,
    operation: str,
    status: int = 200,
) -> list[BulkResult[Out]]:
    """Do one thing to each item; what is refused leaves nothing but its result, the others stay.

    `do` returns what is to be shown of the item, not its row: a later refusal makes the session forget its rows.
    Refused items are summed up in one refused fact per code. TooLargeError above 1,000 items; a database that does not
    answer ends it all.
    """
    if len(items) > MAX_ITEMS:
        raise TooLargeError(f"At most {MAX_ITEMS} items in one request.")
    results: list[BulkResult[Out]] = []
    for index, item in enumerate(items):
        try:
            async with uow.savepoint():
                results.append(BulkResult(index, status, await do(item)))
        except UnavailableError:
            raise
        except RefusalError as refusal:
            del results[index:]  # refused when its rows were written, after `do` had returned
            results.append(refused(index, refusal))
    record_refusals(uow, operation, results)
    return results


def refused(index: int, refusal: RefusalError) -> BulkResult[Any]:
    """The result of an item that was refused."""
    return BulkResult(index, refusal.status, None, refusal.code, refusal.detail, refusal.errors, refusal)


def record_refusals(uow: UnitOfWork, operation: str, results: Sequence[BulkResult[Any]]) -> None:
    """Publish one refused fact per code, with how many items it met, and each distinct denial by a rule once."""
    counted = Counter((one.status, one.code) for one in results if one.code)
    for (status, code), count in counted.items():
        fields = {"operation": operation, "method": "POST", "path": "", "status": status, "code": code, "count": count}
        uow.emit(REFUSED[uow.settings.service].model_validate(fields))
    denials = [one.refusal for one in results if isinstance(one.refusal, DeniedError)]
    distinct = {
        (one.kind, one.row_id, one.action, one.decision.policy_id, one.decision.rule_name): one for one in denials
    }
    for denied in distinct.values():
        record_denial(uow, denied)
