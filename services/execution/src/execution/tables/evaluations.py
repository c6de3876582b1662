"""Evaluations of agents' versions: what was asked, which run answered, and what came of it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from execution.tables import Row, Stamped


class Evaluation(Stamped, Row):
    """All evals of one version, run once; the counts are those of its end."""

    __tablename__ = "evaluation"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    agent_id: Mapped[UUID]
    agent_version_id: Mapped[UUID] = mapped_column(ForeignKey("agent_version.id"))
    semver: Mapped[str]
    created_by: Mapped[str]
    completed_at: Mapped[datetime | None]
    """When the last of its runs was over and judged."""
    eval_count: Mapped[int] = mapped_column(SmallInteger)
    passed_count: Mapped[int] = mapped_column(SmallInteger)
    failed_count: Mapped[int] = mapped_column(SmallInteger)
    error_count: Mapped[int] = mapped_column(SmallInteger)

    __table_args__ = (
        Index(
            "evaluation_organization_id_version_created_at_id_idx",
            "organization_id", "agent_version_id", text("created_at desc"), text("id desc"),
        ),
        Index("evaluation_open_idx", "organization_id", "id", postgresql_where=text("completed_at is null")),
    )  # fmt: skip


class EvaluationResult(Stamped, Row):
    """One eval of an evaluation; it stays when its run is long gone."""

    __tablename__ = "evaluation_result"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    evaluation_id: Mapped[UUID] = mapped_column(ForeignKey("evaluation.id"))
    position: Mapped[int] = mapped_column(SmallInteger)
    """Its place among the version's evals."""
    name: Mapped[str]
    run_id: Mapped[UUID]
    retention_class: Mapped[int] = mapped_column(SmallInteger)
    """Of the run: with it the run is found in one partition."""
    status: Mapped[str | None]
    """The run's, once it is over."""
    verdict: Mapped[str | None]
    """true, false or error; None until the run is over."""
    error_code: Mapped[str]

    __table_args__ = (
        Index(
            "evaluation_result_organization_id_evaluation_id_position_key",
            "organization_id", "evaluation_id", "position", unique=True,
        ),
        Index("evaluation_result_organization_id_run_id_idx", "organization_id", "run_id"),
    )  # fmt: skip
