"""Schedules: what runs when, and as whom."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from execution.tables import Json, Row, Stamped


class Schedule(Stamped, Row):
    """An agent or orchestration that is run by the clock, as whoever made the schedule."""

    __tablename__ = "schedule"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    name: Mapped[str]
    execution_type: Mapped[str]
    """agent or orchestration."""
    definition_id: Mapped[UUID]
    semver: Mapped[str]
    input: Mapped[Any] = mapped_column(JSONB)
    priority: Mapped[int | None]
    cron: Mapped[str]
    time_zone: Mapped[str]
    missed_ticks: Mapped[str]
    """skip, one or all."""
    caller: Mapped[Json]
    """Who made it, with roles and scopes: each run is decided on as theirs."""
    created_by: Mapped[str]
    paused_at: Mapped[datetime | None]
    pause_reason: Mapped[str]
    next_tick_at: Mapped[datetime | None]
    """None while it is paused."""
    last_tick_at: Mapped[datetime | None]
    last_run_id: Mapped[UUID | None]
    last_error_code: Mapped[str]
    """Why the last tick got no run; empty where it did."""
    last_error_detail: Mapped[str]

    __table_args__ = (
        Index(
            "schedule_organization_id_workspace_id_name_key", "organization_id", "workspace_id", "name", unique=True
        ),
        Index(
            "schedule_organization_id_created_at_id_idx",
            "organization_id", text("created_at desc"), text("id desc"),
        ),
        Index("schedule_organization_id_created_by_idx", "organization_id", "created_by"),
        Index("schedule_due_idx", "next_tick_at", postgresql_where=text("next_tick_at is not null")),
    )  # fmt: skip
