"""Policies, whom they are for, and the bundle they make together."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, LargeBinary, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from chassis.db import timestamptz
from policy.tables import Row


class Policy(Row):
    """A document of rules, with a priority among the organization's others."""

    __tablename__ = "policy"
    __table_args__ = (UniqueConstraint("organization_id", "name"), Index(None, "organization_id", "priority", "id"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    policy_type: Mapped[str] = mapped_column(Text)
    rules_yaml: Mapped[str] = mapped_column(Text)
    rules_sha256: Mapped[str] = mapped_column(Text)
    revision: Mapped[int]
    """How often the rules have changed, the first text being 1."""
    is_system: Mapped[bool]
    is_enabled: Mapped[bool]
    priority: Mapped[int]
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(timestamptz())
    updated_at: Mapped[datetime] = mapped_column(timestamptz())
    version: Mapped[int]


class PolicyAssignment(Row):
    """A policy bound to a team or a user; a policy without any is for everyone."""

    __tablename__ = "policy_assignment"
    __table_args__ = (
        UniqueConstraint(
            "organization_id", "policy_id", "assignee_type", "assignee_id", name="policy_assignment_assignee_key"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    policy_id: Mapped[UUID]
    assignee_type: Mapped[str] = mapped_column(Text)
    assignee_id: Mapped[UUID]
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(timestamptz())


class PolicyBundle(Row):
    """All enabled policies of an organization at one revision, as they were published."""

    __tablename__ = "policy_bundle"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    revision: Mapped[int]
    source: Mapped[bytes] = mapped_column(LargeBinary)
    source_sha256: Mapped[str] = mapped_column(Text)
    published_at: Mapped[datetime] = mapped_column(timestamptz())
