"""Routes of provider keys: written, never read back."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from chassis.http import Router, Uow
from execution.api import keyring_of
from execution.tables.model_credentials import ModelCredential
from execution.usecases import model_credentials
from resources.bodies import In, Name
from resources.http import CountOut, ExpectedVersion, Listing
from resources.listing import ListQuery
from resources.versions import etag

router = Router("model_credential", prefix="/v1/model-credentials")

Secret = Annotated[SecretStr, Field(min_length=1, max_length=8192)]
Url = Annotated[str, Field(max_length=2000, pattern=r"^https?://")]


class ModelCredentialOut(BaseModel):
    """What is known of a provider key: everything but the key."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    name: str
    provider: str
    base_url: str | None
    hint: str = Field(description="The key's last four characters.")
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: ModelCredential) -> Self:
        """The public form of a row."""
        return cls.model_validate(row)


class CreateModelCredentialIn(In):
    """A provider's key under a name that agents refer to."""

    name: Name
    provider: Literal["openai", "openai-compatible", "anthropic", "mcp", "http"]
    secret: Secret
    base_url: Url | None = None


class UpdateModelCredentialIn(In):
    """A merge patch: what is left out stays."""

    name: Name = ""
    base_url: Url | None = None
    secret: Secret = SecretStr("")


CREDENTIAL_LIST = Listing(model_credentials.MODEL_CREDENTIALS, ModelCredentialOut)


@router.post("", permission="model_credential:create", status=201)
async def create_model_credential(
    request: Request, uow: Uow, response: Response, body: CreateModelCredentialIn
) -> ModelCredentialOut:
    """Store a provider's key, sealed."""
    secret = body.secret.get_secret_value()
    created = await model_credentials.create_model_credential(
        uow, keyring_of(request), name=body.name, provider=body.provider, secret=secret, base_url=body.base_url
    )
    response.headers["ETag"] = etag(created.version)
    response.headers["Location"] = f"/v1/model-credentials/{created.id}"
    return ModelCredentialOut.of(created)


@router.get("", permission="model_credential:read", **CREDENTIAL_LIST.options)
async def list_model_credentials(uow: Uow, query: Annotated[ListQuery, Depends(CREDENTIAL_LIST.query)]) -> Response:
    """The organization's provider keys, without the keys."""
    return CREDENTIAL_LIST.answer(await model_credentials.list_model_credentials(uow, query))


@router.get("/count", permission="model_credential:read")
async def count_model_credentials(uow: Uow, query: Annotated[ListQuery, Depends(CREDENTIAL_LIST.query)]) -> CountOut:
    """How many provider keys such a list would show."""
    return CountOut(count=await model_credentials.count_model_credentials(uow, query))


@router.get("/{model_credential_id}", permission="model_credential:read")
async def get_model_credential(uow: Uow, response: Response, model_credential_id: UUID) -> ModelCredentialOut:
    """What is known of a provider key."""
    found = await model_credentials.get_model_credential(uow, model_credential_id)
    response.headers["ETag"] = etag(found.version)
    return ModelCredentialOut.of(found)


@router.patch("/{model_credential_id}", permission="model_credential:update")
async def update_model_credential(  # noqa: PLR0917  (what one route is told)
    request: Request,
    uow: Uow,
    response: Response,
    model_credential_id: UUID,
    body: UpdateModelCredentialIn,
    version: ExpectedVersion,
) -> ModelCredentialOut:
    """Rename a provider key or replace the key itself; needs If-Match."""
    values = body.model_dump(exclude_unset=True)
    if "secret" in values:
        values["secret"] = body.secret.get_secret_value()
    changed = await model_credentials.update_model_credential(
        uow, keyring_of(request), model_credential_id, values, expected_version=version
    )
    response.headers["ETag"] = etag(changed.version)
    return ModelCredentialOut.of(changed)


@router.delete("/{model_credential_id}", permission="model_credential:delete")
async def delete_model_credential(uow: Uow, model_credential_id: UUID) -> None:
    """Destroy a provider key."""
    await model_credentials.delete_model_credential(uow, model_credential_id)
