"""Facts of identity: organizations, users, workspaces, API keys."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from contracts.envelope import Fact


class OrganizationState(Fact):
    """What every other service needs to know of an organization."""

    subject_field: ClassVar = "organization_id"

    organization_id: UUID
    version: int
    name: str
    slug: str
    status: str
    """active, suspended or deleted."""
    plan_tier: str
    """free, pro or enterprise."""
    is_platform: bool = False
    """True for the operator's own organization."""
    created_by: str


class OrganizationCreated(OrganizationState):
    """A tenant came into being; its subscription, workspace and gateway follow from this."""

    type: ClassVar = "identity.organization.created.v1"


class OrganizationUpdated(OrganizationState):
    """An organization's name or plan changed."""

    type: ClassVar = "identity.organization.updated.v1"


class OrganizationSuspended(OrganizationState):
    """An organization may do nothing until it is resumed."""

    type: ClassVar = "identity.organization.suspended.v1"
    security: ClassVar = True


class OrganizationResumed(OrganizationState):
    """A suspended organization may work again."""

    type: ClassVar = "identity.organization.resumed.v1"
    security: ClassVar = True


class OrganizationDeleted(OrganizationState):
    """An organization is gone; nothing of it may run or be read."""

    type: ClassVar = "identity.organization.deleted.v1"
    security: ClassVar = True


class OrganizationProvisioned(Fact):
    """Everything an organization needs exists in every service."""

    type: ClassVar = "identity.organization.provisioned.v1"
    subject_field: ClassVar = "organization_id"

    organization_id: UUID


class OrganizationRestated(OrganizationState):
    """An organization's current row, published again for a projection."""

    type: ClassVar = "identity.organization.restated.v1"


class UserState(Fact):
    """What other services need to know of a user."""

    subject_field: ClassVar = "user_id"

    user_id: UUID
    version: int
    role: str
    """org_owner, org_admin, developer, operator, viewer; in the platform organization platform_*."""
    status: str
    """invited, active or suspended."""


class UserCreated(UserState):
    """A user was invited or made."""

    type: ClassVar = "identity.user.created.v1"


class UserUpdated(UserState):
    """A user's name or role changed."""

    type: ClassVar = "identity.user.updated.v1"
    security: ClassVar = True


class UserActivated(UserState):
    """A user may work (again)."""

    type: ClassVar = "identity.user.activated.v1"
    security: ClassVar = True


class UserSuspended(UserState):
    """A user may do nothing; its keys stop working."""

    type: ClassVar = "identity.user.suspended.v1"
    security: ClassVar = True


class UserDeleted(UserState):
    """A user left; its keys stop working."""

    type: ClassVar = "identity.user.deleted.v1"
    security: ClassVar = True


class UserRestated(UserState):
    """A user's current row, published again for a projection."""

    type: ClassVar = "identity.user.restated.v1"


class WorkspaceState(Fact):
    """What other services need to know of a workspace."""

    subject_field: ClassVar = "workspace_id"

    workspace_id: UUID
    version: int
    name: str
    environment_type: str
    """development, staging, production or sandbox."""
    status: str = "active"
    """active, draining (it takes no new runs) or deleted."""
    gateway_id: UUID | None = None
    max_agents: int
    max_concurrent_executions: int
    promotion_from: UUID | None = None
    requires_approval: bool = False
    required_approvers: list[str] = []
    """Who approves promotions into it: roles and users by id; empty: whoever may decide about everything."""
    pii_allowed: bool = False
    encryption_required: bool = False
    retention_days: int


class WorkspaceCreated(WorkspaceState):
    """An environment of an organization came into being."""

    type: ClassVar = "identity.workspace.created.v1"


class WorkspaceUpdated(WorkspaceState):
    """A workspace's limits or data policy changed."""

    type: ClassVar = "identity.workspace.updated.v1"


class WorkspaceDeleted(WorkspaceState):
    """A workspace is gone; nothing may be made or run in it."""

    type: ClassVar = "identity.workspace.deleted.v1"
    security: ClassVar = True


class WorkspaceRestated(WorkspaceState):
    """A workspace's current row, published again for a projection."""

    type: ClassVar = "identity.workspace.restated.v1"


class ApiKeyState(Fact):
    """What the edge needs to recognise a key. The secret itself exists nowhere but with its holder."""

    subject_field: ClassVar = "api_key_id"

    api_key_id: UUID
    version: int
    user_id: UUID | None = None
    """None: a key of the organization itself."""
    name: str
    key_prefix: str
    """The 12 characters that name the key."""
    secret_sha256: str
    """Hex SHA-256 of a 190-bit random secret: nothing to guess."""
    role: str
    """The role the key acts with: its owner's, or the one given to an organization's key."""
    scopes: list[str]
    """Permissions the key is narrowed to; empty means all of its role."""
    is_active: bool
    expires_at: datetime | None = None


class ApiKeyCreated(ApiKeyState):
    """A key was made."""

    type: ClassVar = "identity.api_key.created.v1"


class ApiKeyRotated(ApiKeyState):
    """A key got a successor and ends after the overlap (`expires_at`)."""

    type: ClassVar = "identity.api_key.rotated.v1"
    security: ClassVar = True


class ApiKeyRevoked(ApiKeyState):
    """A key stopped working."""

    type: ClassVar = "identity.api_key.revoked.v1"
    security: ClassVar = True


class ApiKeyRestated(ApiKeyState):
    """A key's current row, published again for a projection."""

    type: ClassVar = "identity.api_key.restated.v1"
