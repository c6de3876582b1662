"""What producers have attested, and what of it did not come by itself. These belong to no organization."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from audit.tables import Row
from chassis.db import timestamptz


class Producer(Row):
    """A producer's last signed word on how far its numbers go."""

    __tablename__ = "producer"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    attested_epoch: Mapped[int]
    attested_sequence: Mapped[int] = mapped_column(BigInteger)
    attested_at: Mapped[datetime] = mapped_column(timestamptz())


class Gap(Row):
    """Numbers the stream did not show."""

    __tablename__ = "gap"

    producer: Mapped[str] = mapped_column(Text, primary_key=True)
    first: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last: Mapped[int] = mapped_column(BigInteger)
    detected_at: Mapped[datetime] = mapped_column(timestamptz())
    healed_at: Mapped[datetime | None] = mapped_column(timestamptz())
    announced_at: Mapped[datetime | None] = mapped_column(timestamptz())
    """When a fact told of it."""
    healing_announced_at: Mapped[datetime | None] = mapped_column(timestamptz())


class PlatformOrganization(Row):
    """The operator's organization: whose log tells of gaps."""

    __tablename__ = "platform_organization"

    only: Mapped[bool] = mapped_column(primary_key=True)
    id: Mapped[UUID]
