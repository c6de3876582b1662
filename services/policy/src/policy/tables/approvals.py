"""What people are asked to approve, and what they said."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chassis.db import timestamptz
from policy.tables import Row

_PENDING = text("status = 'pending'")


class ApprovalRequest(Row):
    """One question to people: whether a run may go on with exactly this, or a promotion be done."""

    __tablename__ = "approval_request"
    __table_args__ = (
        Index(None, "organization_id", "id"),
        Index("approval_request_organization_id_created_by_idx", "organization_id", "created_by", "id"),
        Index("approval_request_pending_run_idx", "organization_id", "run_id", postgresql_where=_PENDING),
        Index("approval_request_due_idx", "expires_at", postgresql_where=_PENDING),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    run_id: Mapped[UUID | None]
    """None: a promotion asks."""
    step_id: Mapped[UUID | None]
    """None: the run itself may not start before."""
    promotion_id: Mapped[UUID | None]
    """None: a run asks. The request has this id itself."""
    action: Mapped[str] = mapped_column(Text)
    resource_type: Mapped[str] = mapped_column(Text)
    resource_id: Mapped[str] = mapped_column(Text)
    requester_id: Mapped[str] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(Text)
    """Whose the question is: the user, also of a key."""
    approvers: Mapped[list[str]] = mapped_column(JSONB)
    """`role:<role>` and `user:<id>`, any one of them; empty: whoever may decide about all."""
    digest: Mapped[str] = mapped_column(Text)
    context: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """What the approver is shown."""
    policy_id: Mapped[UUID | None]
    rule_name: Mapped[str] = mapped_column(Text)
    asked_because: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    approver_id: Mapped[str | None] = mapped_column(Text)
    approved_at: Mapped[datetime | None] = mapped_column(timestamptz())
    decided_at: Mapped[datetime | None] = mapped_column(timestamptz())
    reason: Mapped[str | None] = mapped_column(Text)
    """What whoever decided said; of a withdrawn one, why (`Withdrawal`)."""
    expires_at: Mapped[datetime] = mapped_column(timestamptz())
    created_at: Mapped[datetime] = mapped_column(timestamptz())
    updated_at: Mapped[datetime] = mapped_column(timestamptz())
    version: Mapped[int]
