"""Workspaces as identity publishes them: what may be made and run in each, and how long it is kept."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from execution.tables import Row, Stamped


class Workspace(Stamped, Row):
    """An environment of an organization; `version` is that of identity's row."""

    __tablename__ = "workspace"
    __table_args__ = (
        Index("workspace_organization_id_name_idx", "organization_id", "name"),
        Index("workspace_draining_idx", "organization_id", "id", postgresql_where=text("status = 'draining'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    environment_type: Mapped[str]
    status: Mapped[str]
    gateway_id: Mapped[UUID | None]
    max_agents: Mapped[int]
    max_concurrent_executions: Mapped[int]
    promotion_from: Mapped[UUID | None]
    requires_approval: Mapped[bool]
    required_approvers: Mapped[list[str]] = mapped_column(JSONB)
    """Who approves promotions into it, as identity has them."""
    pii_allowed: Mapped[bool]
    encryption_required: Mapped[bool]
    retention_days: Mapped[int]
