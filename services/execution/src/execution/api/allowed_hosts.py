"""Routes of the hosts that agents may name."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import Depends, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from chassis.http import Router, Uow
from execution.domain.hosts import MAX_HOST_CHARACTERS, is_host
from execution.tables.allowed_hosts import AllowedHost
from execution.usecases import allowed_hosts
from resources.bodies import In
from resources.http import CountOut, Listing
from resources.listing import ListQuery

router = Router("allowed_host", prefix="/v1/allowed-hosts")


def _host(text: str) -> str:
    host = text.lower().rstrip(".")
    if not is_host(host):
        raise ValueError("a host is a name or an address without port, or *. and a name")
    return host


Host = Annotated[str, Field(min_length=1, max_length=MAX_HOST_CHARACTERS), AfterValidator(_host)]


class AllowedHostOut(BaseModel):
    """A host that agents may name."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    host: str
    created_by: str
    created_at: datetime
    version: int

    @classmethod
    def of(cls, row: AllowedHost) -> Self:
        """The public form of a row."""
        return cls.model_validate(row)


class CreateAllowedHostIn(In):
    """A host: `agents.example.com`, or `*.example.com` for everything below."""

    host: Host


HOST_LIST = Listing(allowed_hosts.ALLOWED_HOSTS, AllowedHostOut)


@router.post("", permission="allowed_host:create", status=201)
async def create_allowed_host(uow: Uow, response: Response, body: CreateAllowedHostIn) -> AllowedHostOut:
    """Let agents name a host."""
    created = await allowed_hosts.create_allowed_host(uow, host=body.host)
    response.headers["Location"] = f"/v1/allowed-hosts/{created.id}"
    return AllowedHostOut.of(created)


@router.get("", permission="allowed_host:read", **HOST_LIST.options)
async def list_allowed_hosts(uow: Uow, query: Annotated[ListQuery, Depends(HOST_LIST.query)]) -> Response:
    """The hosts that agents may name."""
    return HOST_LIST.answer(await allowed_hosts.list_allowed_hosts(uow, query))


@router.get("/count", permission="allowed_host:read")
async def count_allowed_hosts(uow: Uow, query: Annotated[ListQuery, Depends(HOST_LIST.query)]) -> CountOut:
    """How many hosts such a list would show."""
    return CountOut(count=await allowed_hosts.count_allowed_hosts(uow, query))


@router.get("/{allowed_host_id}", permission="allowed_host:read")
async def get_allowed_host(uow: Uow, allowed_host_id: UUID) -> AllowedHostOut:
    """One host of the list."""
    return AllowedHostOut.of(await allowed_hosts.get_allowed_host(uow, allowed_host_id))


@router.delete("/{allowed_host_id}", permission="allowed_host:delete")
async def delete_allowed_host(uow: Uow, allowed_host_id: UUID) -> None:
    """Take a host from the list; versions that name it run on, new ones fail their scan."""
    await allowed_hosts.delete_allowed_host(uow, allowed_host_id)
