"""Identity's rows as the facts that tell of them."""

from __future__ import annotations

from typing import TypeVar

from contracts.identity import ApiKeyState, OrganizationState, UserState, WorkspaceDeleted, WorkspaceState
from identity.tables.api_keys import ApiKey
from identity.tables.organizations import Organization
from identity.tables.users import User
from identity.tables.workspaces import Workspace

O = TypeVar("O", bound=OrganizationState)  # noqa: E741  (O, U, W, K: one letter for each noun)
U = TypeVar("U", bound=UserState)
W = TypeVar("W", bound=WorkspaceState)
K = TypeVar("K", bound=ApiKeyState)


def organization_fact(kind: type[O], row: Organization) -> O:
    """What happened to an organization, as `kind`."""
    return kind(
        organization_id=row.id,
        version=row.version,
        name=row.name,
        slug=row.slug,
        status=row.status,
        plan_tier=row.plan_tier,
        is_platform=row.is_platform,
        created_by=row.created_by,
    )


def user_fact(kind: type[U], row: User) -> U:
    """What happened to a user, as `kind`: no name and no address."""
    return kind(user_id=row.id, version=row.version, role=row.role, status=row.status)


def workspace_fact(kind: type[W], row: Workspace) -> W:
    """What happened to a workspace, as `kind`; its row lives as long as it is active."""
    return kind(
        workspace_id=row.id,
        version=row.version,
        name=row.name,
        environment_type=row.environment_type,
        status="deleted" if kind is WorkspaceDeleted else "active",
        gateway_id=row.gateway_id,
        max_agents=row.max_agents,
        max_concurrent_executions=row.max_concurrent_executions,
        promotion_from=row.promotion_from,
        requires_approval=row.requires_approval,
        pii_allowed=row.pii_allowed,
        encryption_required=row.encryption_required,
        retention_days=row.retention_days,
    )


def api_key_fact(kind: type[K], row: ApiKey) -> K:
    """What happened to a key, as `kind`."""
    return kind(
        api_key_id=row.id,
        version=row.version,
        user_id=row.user_id,
        name=row.name,
        key_prefix=row.key_prefix,
        secret_sha256=row.key_hash,
        role=row.role,
        scopes=row.scopes,
        is_active=row.is_active,
        expires_at=row.expires_at,
    )
