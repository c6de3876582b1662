"""Kill switches: what nothing may run of."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from execution.tables import Row, Stamped

ENGAGED = "released_at is null"
HITS = """case k.scope when 'organization' then true when 'workspace' then r.workspace_id = k.target_id
  when 'agent' then r.agent_id = k.target_id
    or exists (select from jsonb_each(r.pins) as pin where pin.value ->> 'agent_id' = k.target_id::text)
  when 'version' then r.version_id = k.target_id
    or exists (select from jsonb_each(r.pins) as pin where pin.value ->> 'version_id' = k.target_id::text)
  else k.target_id in (r.id, r.root_run_id) end"""
"""Whether a run `r` is in the scope of a switch `k` of its organization."""
KILLED = f"""exists (
  select from kill_switch k where k.organization_id = r.organization_id and k.{ENGAGED} and {HITS})"""
"""Whether any switch stops the run `r`; where none is engaged one look into an empty index."""


class KillSwitch(Stamped, Row):
    """Engaged until it is released."""

    __tablename__ = "kill_switch"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    scope: Mapped[str]
    """organization, workspace, agent, version or run."""
    target_id: Mapped[UUID]
    reason: Mapped[str]
    created_by: Mapped[str]
    released_at: Mapped[datetime | None]
    released_by: Mapped[str | None]

    __table_args__ = (
        Index(
            "kill_switch_engaged_key", "organization_id", "scope", "target_id",
            unique=True, postgresql_where=text(ENGAGED),
        ),
        Index(
            "kill_switch_organization_id_created_at_id_idx",
            "organization_id", text("created_at desc"), text("id desc"),
        ),
    )  # fmt: skip
