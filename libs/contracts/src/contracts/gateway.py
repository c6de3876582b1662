"""Facts of gateway: the gateways an organization's agents are reached through."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from contracts.envelope import Fact


class GatewayState(Fact):
    """What other services need to know of a gateway."""

    subject_field: ClassVar = "gateway_id"

    gateway_id: UUID
    version: int
    name: str
    gateway_type: str
    status: str
    is_default: bool


class GatewayCreated(GatewayState):
    """A gateway came into being."""

    type: ClassVar = "gateway.gateway.created.v1"


class GatewayUpdated(GatewayState):
    """A gateway's settings changed."""

    type: ClassVar = "gateway.gateway.updated.v1"


class GatewayRestated(GatewayState):
    """A gateway's current row, published again for a projection."""

    type: ClassVar = "gateway.gateway.restated.v1"
