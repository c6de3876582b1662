"""Rows of execution. Every table's class descends from `Row`, so that nothing else's tables mix in."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import MetaData
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

import chassis.db
from chassis.db import NAMING

Json = Annotated[dict[str, Any], mapped_column(postgresql.JSONB(none_as_null=True))]
"""A JSON object in a column of its own, or nothing; its shape is stated where it is made."""


class Row(chassis.db.Row):
    """The root of this service's tables."""

    __abstract__ = True
    metadata = MetaData(naming_convention=NAMING)


class Stamped:
    """What every row carries: whose it is, and when it was made and changed."""

    organization_id: Mapped[UUID]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    version: Mapped[int]
