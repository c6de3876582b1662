"""Users, agents and gateways are counted for the monthly record."""

from __future__ import annotations

from billing.usecases import months
from chassis.uow import UnitOfWork
from contracts.execution import AgentCreated, AgentDeleted, AgentState, AgentUpdated
from contracts.gateway import GatewayCreated, GatewayRestated, GatewayState, GatewayUpdated
from contracts.identity import (
    UserActivated,
    UserCreated,
    UserDeleted,
    UserRestated,
    UserState,
    UserSuspended,
    UserUpdated,
)
from spine.facts import on


@on(UserCreated, UserUpdated, UserActivated, UserSuspended, UserDeleted, UserRestated)
async def count_user(uow: UnitOfWork, fact: UserState) -> None:
    """A user counts until it is deleted."""
    alive = not isinstance(fact, UserDeleted) and fact.status != "deleted"
    await months.count_thing(uow, noun="user", thing_id=fact.user_id, alive=alive, version=fact.version)


@on(AgentCreated, AgentUpdated, AgentDeleted)
async def count_agent(uow: UnitOfWork, fact: AgentState) -> None:
    """An agent counts until it is deleted."""
    alive = not isinstance(fact, AgentDeleted)
    await months.count_thing(uow, noun="agent", thing_id=fact.agent_id, alive=alive, version=fact.version)


@on(GatewayCreated, GatewayUpdated, GatewayRestated)
async def count_gateway(uow: UnitOfWork, fact: GatewayState) -> None:
    """A gateway counts."""
    await months.count_thing(uow, noun="gateway", thing_id=fact.gateway_id, alive=True, version=fact.version)
