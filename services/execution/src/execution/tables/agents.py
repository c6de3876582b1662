"""Agents and their immutable versions."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from execution.domain.scans import PASSED
from execution.tables import Json, Row, Stamped


class Agent(Stamped, Row):
    """An agent's definition as it stands; what ran earlier is in its versions."""

    __tablename__ = "agent"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    team_id: Mapped[UUID | None]
    created_by: Mapped[str]
    name: Mapped[str]
    description: Mapped[str]
    agent_type: Mapped[str]
    """The kind in its configuration: llm, http, mcp or python."""
    config_yaml: Mapped[str]
    current_version: Mapped[str]
    current_version_id: Mapped[UUID]
    previous_version: Mapped[str | None]
    """The number that was current before; None for the first."""
    rolled_back_from: Mapped[str | None]
    """The number that was taken back for the current one; None where it came in the ordinary way."""
    risk_level: Mapped[str]
    is_public: Mapped[bool]
    marketplace_listing_id: Mapped[str | None]
    status: Mapped[str]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "agent_organization_id_workspace_id_name_key", "organization_id", "workspace_id", "name",
            unique=True, postgresql_where=text("deleted_at is null"),
        ),
        Index("agent_organization_id_workspace_id_status_idx", "organization_id", "workspace_id", "status"),
        Index("agent_organization_id_created_at_id_idx", "organization_id", text("created_at desc"), text("id desc")),
    )  # fmt: skip


class AgentVersion(Stamped, Row):
    """One revision of an agent, named by its number and by the digest of its configuration."""

    __tablename__ = "agent_version"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    agent_id: Mapped[UUID] = mapped_column(ForeignKey("agent.id"))
    workspace_id: Mapped[UUID]
    semver: Mapped[str]
    digest: Mapped[str]
    config_yaml: Mapped[str]
    config: Mapped[Json]
    """The canonical configuration: what the digest is taken of."""
    graph: Mapped[Json]
    """The compiled graph, as `domain.graph` reads it."""
    change_summary: Mapped[str]
    created_by: Mapped[str]
    is_current: Mapped[bool]
    security_scan_status: Mapped[str]
    security_scan_results: Mapped[Json]
    promoted_from: Mapped[UUID | None]
    """The version of another workspace that it is a copy of."""

    __table_args__ = (
        Index(
            "agent_version_organization_id_agent_id_semver_key", "organization_id", "agent_id", "semver", unique=True
        ),
        Index(
            "agent_version_organization_id_agent_id_current_key", "organization_id", "agent_id",
            unique=True, postgresql_where=text("is_current"),
        ),
        Index(
            "agent_version_organization_id_agent_id_created_at_id_idx",
            "organization_id", "agent_id", text("created_at desc"), text("id desc"),
        ),
    )  # fmt: skip

    @property
    def has_passed_scan(self) -> bool:
        """Whether it may run."""
        return self.security_scan_status == PASSED
