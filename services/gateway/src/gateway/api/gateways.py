"""Routes of gateways."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from chassis.http import Router, Uow
from gateway.tables.gateways import Gateway
from gateway.usecases import gateways
from gateway.usecases.gateways import MAX_RATE
from resources.http import CountOut, ExpectedVersion, Listing
from resources.listing import ListQuery
from resources.patches import PatchIn
from resources.versions import etag

router = Router("gateway", prefix="/v1/gateways")

Rate = Annotated[int, Field(ge=1, le=MAX_RATE)]


class GatewayOut(BaseModel):
    """A way in, with its limits in requests a second."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    name: str
    gateway_type: str
    status: str
    is_default: bool
    api_url: str
    api_port: int
    mcp_url: str | None
    mcp_port: int | None
    ssl_enabled: bool
    ssl_cert_id: str | None
    min_instances: int
    max_instances: int
    current_instances: int
    global_rate_limit: int
    per_agent_rate_limit: int
    per_user_rate_limit: int
    auth_methods: list[Any]
    jwt_issuer: str | None
    last_health_check: datetime | None
    health_status: str
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: Gateway) -> Self:
        """The public form of a row."""
        return cls.model_validate(row)


class UpdateGatewayIn(PatchIn):
    """A merge patch: what is left out stays. Only what the edge obeys can be changed."""

    name: Annotated[str, Field(min_length=1, max_length=100)] = ""
    global_rate_limit: Rate = 1
    per_user_rate_limit: Rate = 1


LIST = Listing(gateways.GATEWAYS, GatewayOut)


@router.get("", permission="gateway:read", **LIST.options)
async def list_gateways(uow: Uow, query: Annotated[ListQuery, Depends(LIST.query)]) -> Response:
    """The organization's gateways."""
    return LIST.answer(await gateways.list_gateways(uow, query))


@router.get("/count", permission="gateway:read")
async def count_gateways(uow: Uow, query: Annotated[ListQuery, Depends(LIST.query)]) -> CountOut:
    """How many gateways the list would show."""
    return CountOut(count=await gateways.count_gateways(uow, query))


@router.get("/{gateway_id}", permission="gateway:read")
async def get_gateway(uow: Uow, gateway_id: UUID, response: Response) -> GatewayOut:
    """One gateway."""
    gateway = await gateways.get_gateway(uow, gateway_id)
    response.headers["ETag"] = etag(gateway.version)
    return GatewayOut.of(gateway)


@router.patch("/{gateway_id}", permission="gateway:update")
async def update_gateway(
    uow: Uow, gateway_id: UUID, body: UpdateGatewayIn, expected: ExpectedVersion, response: Response
) -> GatewayOut:
    """Change the name or the limits; they hold at the edge within two seconds."""
    gateway = await gateways.update_gateway(uow, gateway_id, expected_version=expected, changes=body.given())
    response.headers["ETag"] = etag(gateway.version)
    return GatewayOut.of(gateway)
