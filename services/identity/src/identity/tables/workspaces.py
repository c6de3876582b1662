"""Environments of an organization."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chassis.db import timestamptz
from identity.tables import Row


class Workspace(Row):
    """Where agents live and run, with its limits and data policy."""

    __tablename__ = "workspace"
    __table_args__ = (UniqueConstraint("organization_id", "name"), Index(None, "organization_id", "created_at", "id"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    name: Mapped[str] = mapped_column(Text)
    environment_type: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    gateway_id: Mapped[UUID | None]
    max_agents: Mapped[int]
    max_concurrent_executions: Mapped[int]
    promotion_from: Mapped[UUID | None]
    requires_approval: Mapped[bool]
    required_approvers: Mapped[list[str]] = mapped_column(JSONB)
    pii_allowed: Mapped[bool]
    encryption_required: Mapped[bool]
    retention_days: Mapped[int]
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(timestamptz())
    updated_at: Mapped[datetime] = mapped_column(timestamptz())
    version: Mapped[int]
    status: Mapped[str] = mapped_column(Text)
    """active or draining; a deleted one has no row."""
