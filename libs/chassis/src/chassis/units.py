"""Units of work that a route opens itself: to try again for what is on its way here, or to answer after the commit."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request

from chassis.errors import ConflictError
from chassis.http import Door, caller_of
from chassis.permits import Permit
from chassis.rules import Rules, admit
from chassis.uow import UnitOfWork

T = TypeVar("T")

WAIT_SECONDS = 1.0
PAUSE_SECONDS = 0.05


async def in_unit(request: Request, use_case: Callable[[UnitOfWork], Awaitable[T]]) -> T:
    """Run a use case in a unit of work of its own and commit it.

    Where what it refers to was made a moment ago and is not known here yet, it is tried again for a second, holding no
    connection meanwhile.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + WAIT_SECONDS
    while True:
        try:
            return await _once(request, use_case)
        except ConflictError as error:
            if error.code != "not_yet_known" or clock() >= end:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


async def rules_of(request: Request) -> Rules:
    """The rules of the caller's organization."""
    return await door_of(request).rules.of(caller_of(request).organization_id)


async def permit_for(request: Request, permission: str) -> Permit:
    """How far another permission of the same caller reaches; ForbiddenError when it has none."""
    return admit(caller_of(request), permission, await rules_of(request), named=True)


def door_of(request: Request) -> Door:
    """The service's door."""
    door: Door = request.app.state.door
    return door


def permit_of(request: Request) -> Permit:
    """What the caller was let in with."""
    permit: Permit = request.scope["remit.permit"]
    return permit


async def _once(request: Request, use_case: Callable[[UnitOfWork], Awaitable[T]]) -> T:
    permit = permit_of(request)
    async with door_of(request).units.begin(caller_of(request), permit) as uow:
        result = await use_case(uow)
        permit.require_judged()
    return result
