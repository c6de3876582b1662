"""Hosts that an organization lets its agents name."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from execution.tables import Row, Stamped


class AllowedHost(Stamped, Row):
    """A host, or everything below one; where there is any, versions that name others fail their scan."""

    __tablename__ = "allowed_host"
    __table_args__ = (
        Index("allowed_host_organization_id_host_key", "organization_id", "host", unique=True),
        Index(
            "allowed_host_organization_id_created_at_id_idx",
            "organization_id", text("created_at desc"), text("id desc"),
        ),
    )  # fmt: skip

    id: Mapped[UUID] = mapped_column(primary_key=True)
    host: Mapped[str]
    created_by: Mapped[str]
