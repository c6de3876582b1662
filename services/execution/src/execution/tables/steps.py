"""Steps: one row per attempt."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from execution.tables import Row, Stamped


class Step(Stamped, Row):
    """One attempt at a unit of work inside a run, partitioned like its run."""

    __tablename__ = "step"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    retention_class: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    node: Mapped[str] = mapped_column(primary_key=True)
    iteration: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    id: Mapped[UUID]
    step_number: Mapped[int]
    """The order in which the steps of a run were started, from 1."""
    kind: Mapped[str]
    effects: Mapped[str]
    agent_id: Mapped[UUID | None]
    agent_version_id: Mapped[UUID | None]
    agent_semver: Mapped[str]
    status: Mapped[str]
    input: Mapped[bytes | None]
    input_ref: Mapped[str | None]
    output: Mapped[bytes | None]
    output_ref: Mapped[str | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    will_retry: Mapped[bool]
    provider: Mapped[str]
    model_name: Mapped[str]
    price_version: Mapped[str]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_usd_micros: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    token: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = ({"postgresql_partition_by": "list (retention_class)"},)
