"""Promotions that somebody has to approve: what was asked, and what came of it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from execution.tables import Json, Row, Stamped


class PromotionRequest(Stamped, Row):
    """One version that is to go to one workspace; policy's request for an approval has the same id."""

    __tablename__ = "promotion_request"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    agent_id: Mapped[UUID]
    agent_version_id: Mapped[UUID] = mapped_column(ForeignKey("agent_version.id"))
    semver: Mapped[str]
    digest: Mapped[str]
    """Of the version's configuration."""
    from_workspace_id: Mapped[UUID]
    to_workspace_id: Mapped[UUID]
    approvers: Mapped[list[str]] = mapped_column(JSONB)
    """`role:<role>` and `user:<id>`, any one of them; empty: whoever may decide about all."""
    approval_digest: Mapped[str]
    """What an approval is bound to."""
    caller: Mapped[Json]
    """On whose behalf it is done once it is approved."""
    created_by: Mapped[str]
    traceparent: Mapped[str]
    correlation_id: Mapped[str]
    status: Mapped[str]
    approver_id: Mapped[str | None]
    reason: Mapped[str | None]
    """What whoever decided said."""
    decided_at: Mapped[datetime | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    promoted_agent_id: Mapped[UUID | None]
    """The agent in the workspace it went to."""

    __table_args__ = (
        Index(
            "promotion_request_organization_id_agent_id_created_at_id_idx",
            "organization_id", "agent_id", text("created_at desc"), text("id desc"),
        ),
        Index(
            "promotion_request_pending_key", "organization_id", "agent_version_id", "to_workspace_id",
            unique=True, postgresql_where=text("status = 'pending'"),
        ),
    )  # fmt: skip
