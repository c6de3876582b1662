"""What billing says an organization may have."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from identity.tables import Row


class SubscriptionLimit(Row):
    """A projection of billing's subscription."""

    __tablename__ = "subscription_limit"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    max_users: Mapped[int]
    version: Mapped[int]
