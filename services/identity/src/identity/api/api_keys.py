"""Routes of API keys."""

from datetime import datetime, timedelta
from typing import Annotated, Self
from uuid import UUID

from fastapi import Depends, Response
from pydantic import AwareDatetime, BaseModel, Field

from chassis.http import Router, Uow
from identity.tables.api_keys import ApiKey
from identity.usecases import api_keys
from resources.bodies import In
from resources.http import CountOut, Listing
from resources.listing import ListQuery

router = Router("api_key", prefix="/v1/api-keys")


class CreateApiKeyIn(In):
    """A key of a user (the caller, if neither is given), or of the organization itself with a role."""

    name: str = Field(min_length=1, max_length=100)
    user_id: UUID | None = None
    role: str | None = Field(None, description="For a key of the organization: what it acts as.")
    scopes: list[Annotated[str, Field(max_length=100)]] = Field(
        [],
        max_length=100,
        description="Permissions it is narrowed to, such as `run:read` or `agent:*`; none: all of its role.",
    )
    expires_at: AwareDatetime | None = None


class RotateApiKeyIn(In):
    """How long the old key works beside its successor."""

    overlap_seconds: int = Field(
        int(api_keys.DEFAULT_OVERLAP.total_seconds()), ge=0, le=int(api_keys.MAX_OVERLAP.total_seconds())
    )


class ApiKeyOut(BaseModel):
    """A key, without its secret."""

    id: UUID
    organization_id: UUID
    user_id: UUID | None
    name: str
    role: str
    key_prefix: str
    scopes: list[str]
    expires_at: datetime | None
    last_used_at: datetime | None
    is_active: bool
    replaced_by: UUID | None
    created_by: str
    created_at: datetime
    version: int

    @classmethod
    def of(cls, row: ApiKey) -> Self:
        """The public form of a row."""
        return cls.model_validate(row, from_attributes=True)


class NewApiKeyOut(ApiKeyOut):
    """A new key: shown this once."""

    api_key: str = Field(description="Keep it: nobody can show it again.")


API_KEY_LIST = Listing(api_keys.API_KEYS, ApiKeyOut)


@router.post("", permission="api_key:create", status=201)
async def create_api_key(uow: Uow, body: CreateApiKeyIn, response: Response) -> NewApiKeyOut:
    """Make a key and show it this once."""
    row, key = await api_keys.create_api_key(uow, **dict(body))
    response.headers["Location"] = f"/v1/api-keys/{row.id}"
    return NewApiKeyOut(**ApiKeyOut.of(row).model_dump(), api_key=key)


@router.get("", permission="api_key:read", **API_KEY_LIST.options)
async def list_api_keys(uow: Uow, query: Annotated[ListQuery, Depends(API_KEY_LIST.query)]) -> Response:
    """The organization's keys, without their secrets."""
    return API_KEY_LIST.answer(await api_keys.list_api_keys(uow, query))


@router.get("/count", permission="api_key:read")
async def count_api_keys(uow: Uow, query: Annotated[ListQuery, Depends(API_KEY_LIST.query)]) -> CountOut:
    """How many keys such a list would show."""
    return CountOut(count=await api_keys.count_api_keys(uow, query))


@router.get("/{api_key_id}", permission="api_key:read")
async def get_api_key(uow: Uow, api_key_id: UUID) -> ApiKeyOut:
    """One key, without its secret."""
    return ApiKeyOut.of(await api_keys.get_api_key(uow, api_key_id))


@router.post("/{api_key_id}/rotate", permission="api_key:rotate", status=201)
async def rotate_api_key(
    uow: Uow, api_key_id: UUID, response: Response, body: RotateApiKeyIn | None = None
) -> NewApiKeyOut:
    """Make the key's successor; the old one works on for the overlap."""
    overlap = timedelta(seconds=(body or RotateApiKeyIn()).overlap_seconds)
    row, key = await api_keys.rotate_api_key(uow, api_key_id, overlap=overlap)
    response.headers["Location"] = f"/v1/api-keys/{row.id}"
    return NewApiKeyOut(**ApiKeyOut.of(row).model_dump(), api_key=key)


@router.post("/{api_key_id}/revoke", permission="api_key:revoke")
async def revoke_api_key(uow: Uow, api_key_id: UUID) -> ApiKeyOut:
    """End a key within two seconds."""
    return ApiKeyOut.of(await api_keys.revoke_api_key(uow, api_key_id))
