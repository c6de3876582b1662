"""Entries: one fact each. Partitioned by retention class and month; nobody may change one."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Index, LargeBinary, SmallInteger, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from audit.tables import Row
from chassis.db import timestamptz


class Entry(Row):
    """One fact in the log: its bytes as they were committed, and beside them what one searches by.

    `leaf_index` counts an organization's entries from 0 without a gap; `leaf_hash` is the RFC 6962 hash of the leaf
    (`domain/leaves.py`), so that the Merkle tree can be built over what is stored without touching it.
    """

    __tablename__ = "entry"
    __table_args__ = (
        # Upwards, though lists go downwards: pages that grow at their end stay full, and are read backwards as fast.
        Index("entry_organization_time_idx", "organization_id", "occurred_at", "id", "event_type"),
        Index(
            "entry_run_idx",
            "organization_id",
            "run_id",
            "occurred_at",
            "id",
            postgresql_where=text("run_id is not null"),
        ),
        Index("entry_resource_idx", "organization_id", "resource_id", "occurred_at", "id"),
        {"postgresql_partition_by": "list (retention_class)"},
    )

    retention_class: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    workspace_id: Mapped[UUID | None]
    occurred_at: Mapped[datetime] = mapped_column(timestamptz())
    event_type: Mapped[str] = mapped_column(Text)
    resource_type: Mapped[str] = mapped_column(Text)
    resource_id: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    actor_type: Mapped[str] = mapped_column(Text)
    actor_id: Mapped[str] = mapped_column(Text)
    owner_id: Mapped[str] = mapped_column(Text)
    """Whose thing it was about, where the fact says so: what a role with a right to its own may see."""
    result: Mapped[str] = mapped_column(Text)
    error_message: Mapped[str] = mapped_column(Text)
    run_id: Mapped[UUID | None]
    trace_id: Mapped[str] = mapped_column(Text)
    producer: Mapped[str] = mapped_column(Text)
    epoch: Mapped[int]
    sequence: Mapped[int] = mapped_column(BigInteger)
    organization_sequence: Mapped[int] = mapped_column(BigInteger)
    leaf_index: Mapped[int] = mapped_column(BigInteger)
    leaf_hash: Mapped[bytes] = mapped_column(LargeBinary)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    logged_at: Mapped[datetime] = mapped_column(timestamptz())


class TreeHead(Row):
    """How many entries an organization has: the next leaf's index."""

    __tablename__ = "tree_head"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)


class OrganizationWatermark(Row):
    """How far an organization's own numbers of one producer are contiguous here."""

    __tablename__ = "organization_watermark"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    producer: Mapped[str] = mapped_column(Text, primary_key=True)
    epoch: Mapped[int]
    sequence: Mapped[int] = mapped_column(BigInteger)
    """The highest number seen."""
    contiguous: Mapped[int] = mapped_column(BigInteger)
    """Up to here nothing is missing."""
    missing: Mapped[int] = mapped_column(BigInteger)
    """How many numbers below the highest are not in the log: parked, or never shown."""
