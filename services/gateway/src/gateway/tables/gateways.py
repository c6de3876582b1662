"""Gateways: through what an organization's agents are reached."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from gateway.tables import Row


class Gateway(Row):
    """A way in, with its limits. Each organization has a default one, which stands for the shared edge."""

    __tablename__ = "gateway"
    __table_args__ = (
        UniqueConstraint("organization_id", "name"),
        Index(None, "organization_id", "created_at", "id"),
        Index("gateway_default_key", "organization_id", unique=True, postgresql_where="is_default"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    name: Mapped[str]
    gateway_type: Mapped[str]
    status: Mapped[str]
    is_default: Mapped[bool]
    api_url: Mapped[str]
    api_port: Mapped[int]
    mcp_url: Mapped[str | None]
    mcp_port: Mapped[int | None]
    ssl_enabled: Mapped[bool]
    ssl_cert_id: Mapped[str | None]
    min_instances: Mapped[int]
    max_instances: Mapped[int]
    current_instances: Mapped[int]
    global_rate_limit: Mapped[int]
    """Requests a second of the whole organization."""
    per_agent_rate_limit: Mapped[int]
    per_user_rate_limit: Mapped[int]
    """Requests a second of each key; the operator's own limit holds beside it."""
    auth_methods: Mapped[list[Any]] = mapped_column(JSONB)
    jwt_issuer: Mapped[str | None]
    last_health_check: Mapped[datetime | None]
    health_status: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    version: Mapped[int]
