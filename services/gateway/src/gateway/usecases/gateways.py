"""Gateways: one is made with the organization; its limits are obeyed by the edge within two seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import select

from chassis.ids import new_id
from chassis.uow import UnitOfWork
from contracts.gateway import GatewayCreated, GatewayRestated, GatewayState, GatewayUpdated
from gateway.tables.gateways import Gateway
from resources.listing import Resource, counter, lister
from resources.patches import apply_patch
from resources.versions import require_version

G = TypeVar("G", bound=GatewayState)
DEFAULT_NAME = "default"
AGENT_RATE = 50
MAX_RATE = 100_000

GATEWAYS = Resource(
    Gateway,
    filters=("name", "gateway_type", "status", "health_status", "is_default", "created_at"),
    sorts=("name", "created_at"),
)
list_gateways = lister(GATEWAYS)
count_gateways = counter(GATEWAYS)


class EdgeSettings(Protocol):
    """What of the service's settings a new gateway starts with."""

    edge_host: str
    edge_port: int
    public_url: str
    key_rate_per_second: int
    organization_rate_per_second: int


async def create_default_gateway(uow: UnitOfWork) -> Gateway:
    """Make the organization's default gateway, which stands for the shared edge; a second call changes nothing."""
    existing: Gateway | None = await uow.first(
        select(Gateway).where(Gateway.organization_id == uow.organization_id, Gateway.is_default)
    )
    if existing is not None:
        return existing
    told = cast("EdgeSettings", uow.settings)
    public_url = told.public_url or f"http://{told.edge_host}:{told.edge_port}"
    address = urlsplit(public_url)
    gateway = Gateway(
        id=new_id(),
        organization_id=uow.organization_id,
        name=DEFAULT_NAME,
        gateway_type="shared",
        status="running",
        is_default=True,
        api_url=public_url,
        api_port=address.port or (443 if address.scheme == "https" else 80),
        ssl_enabled=address.scheme == "https",
        min_instances=1,
        max_instances=1,
        current_instances=1,
        global_rate_limit=told.organization_rate_per_second,
        per_agent_rate_limit=AGENT_RATE,
        per_user_rate_limit=told.key_rate_per_second,
        auth_methods=["api_key"],
        health_status="healthy",
        created_by=uow.caller.owner_id,
        created_at=uow.now,
        updated_at=uow.now,
        version=1,
    )
    await uow.add(gateway)
    uow.emit(_state(GatewayCreated, gateway))
    return gateway


async def get_gateway(uow: UnitOfWork, gateway_id: UUID) -> Gateway:
    """One gateway."""
    return await uow.get(Gateway, gateway_id)


async def update_gateway(
    uow: UnitOfWork, gateway_id: UUID, *, expected_version: int | None, changes: Mapping[str, Any]
) -> Gateway:
    """Change the name or the limits; nothing is published where nothing differs."""
    gateway = await uow.get(Gateway, gateway_id, lock=True)
    require_version(gateway.version, expected_version)
    if apply_patch(uow, gateway, changes):
        uow.emit(_state(GatewayUpdated, gateway))
    return gateway


async def restate_gateways(uow: UnitOfWork) -> int:
    """Publish the organization's gateways again; returns how many there are."""
    found = await uow.all(select(Gateway).where(Gateway.organization_id == uow.organization_id))
    for gateway in found:
        uow.emit(_state(GatewayRestated, gateway))
    return len(found)


def _state(kind: type[G], row: Gateway) -> G:
    return kind(
        gateway_id=row.id,
        version=row.version,
        name=row.name,
        gateway_type=row.gateway_type,
        status=row.status,
        is_default=row.is_default,
    )
