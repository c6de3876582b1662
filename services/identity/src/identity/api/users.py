"""Routes of users."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import Depends, Response
from pydantic import BaseModel, Field

from chassis.http import Router, Uow
from identity.tables.users import User
from identity.usecases import users
from resources.bodies import In
from resources.http import CountOut, ExpectedVersion, Listing
from resources.listing import ListQuery
from resources.patches import PatchIn
from resources.versions import etag

router = Router("user", prefix="/v1/users")


class InviteUserIn(In):
    """Somebody to be added."""

    email: str = Field(min_length=3, max_length=320, pattern=r"^[^@\s]+@[^@\s]+$")
    name: str = Field("", max_length=200)
    role: str = Field("viewer", max_length=100)


class UpdateUserIn(PatchIn):
    """What may change of a user; what is left out stays."""

    name: str = Field("", max_length=200)
    avatar_url: str | None = Field(None, max_length=2000)
    role: str = Field("", max_length=100)


class UserOut(BaseModel):
    """Somebody who may act in the organization."""

    id: UUID
    organization_id: UUID
    email: str
    name: str
    avatar_url: str | None
    status: str
    role: str
    last_login_at: datetime | None
    mfa_enabled: bool
    sso_provider_id: str | None
    created_at: datetime
    updated_at: datetime
    version: int

    @classmethod
    def of(cls, row: User) -> Self:
        """The public form of a row."""
        return cls.model_validate(row, from_attributes=True)


USER_LIST = Listing(users.USERS, UserOut)


@router.post("", permission="user:invite", status=201)
async def invite_user(uow: Uow, body: InviteUserIn, response: Response) -> UserOut:
    """Add somebody, who can act once activated."""
    user = await users.invite_user(uow, email=body.email, name=body.name, role=body.role)
    response.headers["Location"] = f"/v1/users/{user.id}"
    response.headers["ETag"] = etag(user.version)
    return UserOut.of(user)


@router.get("", permission="user:read", **USER_LIST.options)
async def list_users(uow: Uow, query: Annotated[ListQuery, Depends(USER_LIST.query)]) -> Response:
    """The organization's users."""
    return USER_LIST.answer(await users.list_users(uow, query))


@router.get("/count", permission="user:read")
async def count_users(uow: Uow, query: Annotated[ListQuery, Depends(USER_LIST.query)]) -> CountOut:
    """How many users such a list would show."""
    return CountOut(count=await users.count_users(uow, query))


@router.get("/{user_id}", permission="user:read")
async def get_user(uow: Uow, user_id: UUID, response: Response) -> UserOut:
    """One user."""
    user = await users.get_user(uow, user_id)
    response.headers["ETag"] = etag(user.version)
    return UserOut.of(user)


@router.patch("/{user_id}", permission="user:update")
async def update_user(
    uow: Uow, user_id: UUID, body: UpdateUserIn, version: ExpectedVersion, response: Response
) -> UserOut:
    """Change name, picture or role."""
    user = await users.update_user(uow, user_id, expected_version=version, changes=body.given())
    response.headers["ETag"] = etag(user.version)
    return UserOut.of(user)


@router.post("/{user_id}/activate", permission="user:activate")
async def activate_user(uow: Uow, user_id: UUID) -> UserOut:
    """Let an invited or suspended user work."""
    return UserOut.of(await users.activate_user(uow, user_id))


@router.post("/{user_id}/suspend", permission="user:suspend")
async def suspend_user(uow: Uow, user_id: UUID) -> UserOut:
    """Stop a user and all its keys, within two seconds."""
    return UserOut.of(await users.suspend_user(uow, user_id))


@router.delete("/{user_id}", permission="user:delete")
async def delete_user(uow: Uow, user_id: UUID) -> None:
    """Remove a user and revoke its keys."""
    await users.delete_user(uow, user_id)
