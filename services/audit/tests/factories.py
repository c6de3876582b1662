"""Facts as they lie on their streams, and how the one writer takes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from audit.usecases.ingest import EntrySink
from chassis.ids import new_id
from contracts.envelope import Fact, wrap
from contracts.execution import RunCompleted, RunQueued
from spine.fact_message import Attestation, RawFact, encode
from spine.reading import Gap
from spine.testing.stage import Stage

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def completed(run_id: UUID | None = None, **fields: Any) -> RunCompleted:
    return RunCompleted(run_id=run_id or new_id(), workspace_id=new_id(), execution_type="agent", **fields)


def queued(run_id: UUID | None = None, **fields: Any) -> RunQueued:
    values = {
        "run_id": run_id or new_id(), "workspace_id": new_id(), "execution_type": "agent", "semver": "1.0.0",
        "config_digest": "0" * 64, "trigger_type": "api", "triggered_by": "ann", "decision_id": new_id(),
        "root_run_id": new_id(), **fields,
    }  # fmt: skip
    return RunQueued(**values)


@dataclass
class Producer:
    """Numbers facts as a relay does."""

    name: str = "execution"
    sequence: int = 0
    epoch: int = 1
    heads: dict[UUID, int] = field(default_factory=lambda: defaultdict(int))

    def raw(
        self, organization_id: UUID, fact: Fact | bytes, *, time: datetime = NOON, actor: str = "ann",
        fact_id: UUID | None = None,
    ) -> RawFact:  # fmt: skip
        """The next fact of an organization; bytes are a body that is no fact."""
        fact_id = fact_id or new_id()
        body = fact if isinstance(fact, bytes) else wrap(
            fact, fact_id=fact_id, source=self.name, time=time, organization_id=organization_id, actor_type="user",
            actor_id=actor, traceparent=TRACE,
        )  # fmt: skip
        self.sequence += 1
        self.heads[organization_id] += 1
        row = {
            "sequence": self.sequence, "organization_sequence": self.heads[organization_id], "epoch": self.epoch,
            "id": fact_id, "organization_id": organization_id, "traceparent": TRACE, "body": body,
            "type": f"{self.name}.thing.broken.v1" if isinstance(fact, bytes) else fact.type,
        }  # fmt: skip
        return RawFact(self.name, self.sequence, self.heads[organization_id], self.epoch, encode(row))


async def store(stage: Stage, facts: Sequence[RawFact], retention_class: int = 365) -> None:
    """As the one writer does: its role, its transaction."""
    async with stage.database.connect("ingest") as connection, connection.transaction():
        await EntrySink(retention_class).store(connection, facts)


async def note(stage: Stage, *notes: Attestation | Gap) -> None:
    async with stage.database.connect("ingest") as connection, connection.transaction():
        await EntrySink(365).note(connection, notes)
