"""People of an organization."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from chassis.db import timestamptz
from identity.tables import Row


class User(Row):
    """Somebody who may act in an organization, by one role."""

    __tablename__ = "app_user"  # `user` is a word SQL has taken
    __table_args__ = (
        Index("app_user_organization_id_email_key", "organization_id", text("lower(email)"), unique=True),
        Index(None, "organization_id", "created_at", "id"),
    )
    noun: ClassVar[str] = "user"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    email: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    avatar_url: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    last_login_at: Mapped[datetime | None] = mapped_column(timestamptz())
    mfa_enabled: Mapped[bool]
    sso_provider_id: Mapped[str | None] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(timestamptz())
    updated_at: Mapped[datetime] = mapped_column(timestamptz())
    version: Mapped[int]
