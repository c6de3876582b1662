"""Orchestrations and their immutable versions."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from execution.tables import Json, Row, Stamped


class Orchestration(Stamped, Row):
    """A definition that makes several agents work together, as it stands."""

    __tablename__ = "orchestration"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    team_id: Mapped[UUID | None]
    created_by: Mapped[str]
    name: Mapped[str]
    description: Mapped[str]
    pattern: Mapped[str]
    config_yaml: Mapped[str]
    agent_ids: Mapped[Json]
    """`{alias: {id, version}}`; version is a number or `current`, which each run pins when it starts."""
    current_version: Mapped[str]
    current_version_id: Mapped[UUID]
    previous_version: Mapped[str | None]
    """The number that was current before; None for the first."""
    rolled_back_from: Mapped[str | None]
    """The number that was taken back for the current one; None where it came in the ordinary way."""
    status: Mapped[str]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "orchestration_organization_id_workspace_id_name_key", "organization_id", "workspace_id", "name",
            unique=True, postgresql_where=text("deleted_at is null"),
        ),
        Index("orchestration_organization_id_workspace_id_status_idx", "organization_id", "workspace_id", "status"),
        Index(
            "orchestration_organization_id_created_at_id_idx",
            "organization_id", text("created_at desc"), text("id desc"),
        ),
    )  # fmt: skip


class OrchestrationVersion(Stamped, Row):
    """One revision of an orchestration, named by its number and by the digest of its configuration."""

    __tablename__ = "orchestration_version"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    orchestration_id: Mapped[UUID] = mapped_column(ForeignKey("orchestration.id"))
    workspace_id: Mapped[UUID]
    semver: Mapped[str]
    digest: Mapped[str]
    config_yaml: Mapped[str]
    config: Mapped[Json]
    """The canonical configuration: what the digest is taken of."""
    graph: Mapped[Json]
    """The compiled graph, as `domain.graph` reads it."""
    agent_ids: Mapped[Json]
    change_summary: Mapped[str]
    created_by: Mapped[str]
    is_current: Mapped[bool]

    __table_args__ = (
        Index(
            "orchestration_version_organization_id_parent_semver_key",
            "organization_id", "orchestration_id", "semver", unique=True,
        ),
        Index(
            "orchestration_version_organization_id_parent_current_key", "organization_id", "orchestration_id",
            unique=True, postgresql_where=text("is_current"),
        ),
        Index(
            "orchestration_version_organization_id_parent_created_at_idx",
            "organization_id", "orchestration_id", text("created_at desc"), text("id desc"),
        ),
    )  # fmt: skip
