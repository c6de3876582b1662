"""Keys that stand for a user, or for the organization itself. The secret is not here."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chassis.db import timestamptz
from identity.tables import Row


class ApiKey(Row):
    """What is known of a key: its public id, and the hash of its secret."""

    __tablename__ = "api_key"
    __table_args__ = (
        UniqueConstraint("key_prefix"),
        Index(None, "organization_id", "created_at", "id"),
        Index(None, "organization_id", "user_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    user_id: Mapped[UUID | None]
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    """What an organization's own key acts as; a user's key acts as its user does at the time."""
    key_prefix: Mapped[str] = mapped_column(Text)
    key_hash: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(JSONB)
    expires_at: Mapped[datetime | None] = mapped_column(timestamptz())
    last_used_at: Mapped[datetime | None] = mapped_column(timestamptz())
    is_active: Mapped[bool]
    replaced_by: Mapped[UUID | None]
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(timestamptz())
    updated_at: Mapped[datetime] = mapped_column(timestamptz())
    version: Mapped[int]

    @property
    def secret_sha256(self) -> str:
        """The hash under the name its facts have for it."""
        return self.key_hash
