"""The tenant. Its row security goes by its own id."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from chassis.db import timestamptz
from identity.tables import Row


class Organization(Row):
    """A company that uses Remit, or the operator itself."""

    __tablename__ = "organization"
    __table_args__ = (
        UniqueConstraint("slug"),
        Index("organization_platform_key", "is_platform", unique=True, postgresql_where=text("is_platform")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    slug: Mapped[str] = mapped_column(Text)
    """Unique for ever, across all organizations: the one global natural key."""
    logo_url: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    plan_tier: Mapped[str] = mapped_column(Text)
    is_platform: Mapped[bool]
    has_subscription: Mapped[bool]
    has_gateway: Mapped[bool]
    provisioned_at: Mapped[datetime | None] = mapped_column(timestamptz())
    """When every service had made what the organization needs there."""
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(timestamptz())
    updated_at: Mapped[datetime] = mapped_column(timestamptz())
    version: Mapped[int]
