"""Who may come in: identity's keys and users, as its facts told."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from gateway.tables import Row


class ApiKey(Row):
    """A key by its public part, with the hash of its secret."""

    __tablename__ = "api_key"
    __table_args__ = (Index(None, "organization_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    user_id: Mapped[UUID | None]
    key_prefix: Mapped[str] = mapped_column(unique=True)
    secret_sha256: Mapped[str]
    role: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    is_active: Mapped[bool]
    expires_at: Mapped[datetime | None]
    version: Mapped[int]


class KnownUser(Row):
    """A user's present role and state: a key never exceeds its owner."""

    __tablename__ = "known_user"
    __table_args__ = (Index(None, "organization_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    role: Mapped[str]
    status: Mapped[str]
    version: Mapped[int]


class ProducerFreshness(Row):
    """When a producer last said how far its facts go, as far as this service has followed them."""

    __tablename__ = "producer_freshness"

    producer: Mapped[str] = mapped_column(primary_key=True)
    attested_at: Mapped[datetime]
