"""Decisions that the services have recorded."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chassis.db import timestamptz
from policy.tables import Row


class Decision(Row):
    """Who asked what, and which rule answered."""

    __tablename__ = "decision"
    __table_args__ = (
        Index(None, "organization_id", "id"),
        Index(None, "organization_id", "created_by", "id"),
        Index(
            "decision_organization_id_run_id_idx",
            "organization_id",
            "run_id",
            postgresql_where=text("run_id is not null"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    service: Mapped[str] = mapped_column(Text)
    effect: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    resource_type: Mapped[str] = mapped_column(Text)
    resource_id: Mapped[str] = mapped_column(Text)
    principal_type: Mapped[str] = mapped_column(Text)
    principal_id: Mapped[str] = mapped_column(Text)
    rule_name: Mapped[str] = mapped_column(Text)
    policy_id: Mapped[UUID | None]
    bundle_revision: Mapped[int]
    reason: Mapped[str] = mapped_column(Text)
    obligations: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    error: Mapped[bool]
    run_id: Mapped[UUID | None]
    decided_at: Mapped[datetime] = mapped_column(timestamptz())
    created_by: Mapped[str] = mapped_column(Text)
    """Whose it is where a right reaches only one's own: the user who asked, also by a key."""
