"""What the engine claims and stores: many runs in one statement, by a role that sees exactly the batch's organizations.

asyncpg and plain SQL (`engine_statements.py`), because per statement an ORM costs more than the whole step: 77 runs/s
with SQLAlchemy and a transaction per step, 1,661 with these (five steps, two cores). Rows and facts of a run go in the
same statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from chassis.clock import utc_now
from chassis.db import GONE
from chassis.ids import new_id
from execution.clients.dispatch import Dispatch
from execution.domain.runs import StepStatus
from execution.domain.walk import StepKey
from execution.usecases.engine_statements import CLAIM, KEYED_PLANS, RECORDED, STAND, STEPS, WRITE
from execution.usecases.wake_ups import CHILDREN, WAITING

POOL_SIZE, FORGETTABLE_POOL_SIZE = 8, 2
_SESSION = KEYED_PLANS | {
    "statement_timeout": "10000",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "30000",
    "application_name": "remit-execution engine",
}


@dataclass(slots=True)
class ClaimedRun:
    """A run in this worker's hands, as long as nobody claims it with a newer token."""

    organization_id: UUID
    retention_class: int
    id: UUID
    workspace_id: UUID
    execution_type: str
    agent_id: UUID | None
    orchestration_id: UUID | None
    version_id: UUID
    pins: dict[str, dict[str, str]]
    limits: dict[str, Any]
    created_by: str
    status: str
    input: bytes | None
    input_ref: str | None
    step_count: int
    input_tokens: int
    output_tokens: int
    cost_usd_micros: int
    traceparent: str
    correlation_id: str
    depth: int
    token: int
    last_step: int
    takeovers: int
    answers: int
    """How many answers for its waiting steps have been seen by us."""
    forked_from: UUID | None
    plays_writes: bool
    parent_step_id: UUID | None
    """Of a child: the step of its parent that it is."""
    elapsed: float
    """Seconds since its first start without what it has waited for somebody, by the database's clock."""

    def recount(self, record: Any) -> None:
        """Others have ended attempts, and counted them in the run's row: it is as this record says."""
        self.answers, self.step_count = record["answers"], record["step_count"]
        self.input_tokens, self.output_tokens = record["input_tokens"], record["output_tokens"]
        self.cost_usd_micros = record["cost_usd_micros"]

    @classmethod
    def of(cls, record: asyncpg.Record) -> ClaimedRun:
        """The run in a claimed row."""
        values = {name: plain(value) for name, value in record.items()}
        values["pins"], values["limits"] = orjson.loads(values["pins"]), orjson.loads(values["limits"])
        return cls(**values)


class StepRow(NamedTuple):
    """One attempt as it is stored; the order is that of the statement's arrays."""

    organization_id: UUID
    retention_class: int
    run_id: UUID
    token: int
    node: str
    iteration: int
    attempt: int
    id: UUID
    step_number: int
    kind: str
    effects: str
    agent_id: UUID | None
    agent_version_id: UUID | None
    agent_semver: str
    status: str
    input: bytes | None
    input_ref: str | None
    output: bytes | None
    output_ref: str | None
    error_code: str | None
    error_message: str | None
    will_retry: bool
    provider: str
    model_name: str
    price_version: str
    input_tokens: int
    output_tokens: int
    cost_usd_micros: int
    started_at: datetime
    completed_at: datetime | None
    copied_from: UUID | None = None
    child: str | None = None
    """Of a child run's step and of a detached call, as JSON: what is to run, and what it may use."""


class FactRow(NamedTuple):
    """A fact on its way to the outbox."""

    organization_id: UUID
    run_id: UUID
    id: UUID
    type: str
    traceparent: str
    body: bytes


@dataclass(slots=True)
class RunWrite:
    """What one write does to a run, its steps and the outbox: all of it, or nothing when the fence does not hold."""

    run: ClaimedRun
    status: str = "running"
    waiting_for: str | None = None
    output: bytes | None = None
    output_ref: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    stop_reason: str | None = None
    ended: bool = False
    settles: bool = False
    """Whether it says how a wait has ended: void where somebody has answered meanwhile."""
    wake_at: datetime | None = None
    stirs_children: bool = False
    """Whether there is a child to start or to stop."""
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd_micros: int = 0
    steps: list[StepRow] = field(default_factory=list)
    made: list[StepRow] = field(default_factory=list)
    """Of the steps, attempts that whoever writes has made and paid for: they are kept where all else is void."""
    again: list[StepRow] = field(default_factory=list)
    """Of the steps, attempts that this write gives up and that may be made again where it is void."""
    facts: list[FactRow] = field(default_factory=list)

    def put(self, row: StepRow) -> None:
        """Add what has become of a step, in place of what this write says of it already."""
        self.steps = [*(other for other in self.steps if other.id != row.id), row]

    def run_values(self) -> tuple[Any, ...]:
        """The run's part, in the order of the statement's arrays."""
        run = self.run
        return (
            run.organization_id, run.retention_class, run.id, run.token, run.last_step, self.status, self.waiting_for,
            self.output, self.output_ref, self.error_code, self.error_message, self.stop_reason, self.attempts,
            self.input_tokens, self.output_tokens, self.cost_usd_micros, self.ended, run.answers, self.settles,
            self.wake_at,
        )  # fmt: skip


class Standing(NamedTuple):
    """How a run's row stands, for whoever's write it did not take."""

    token: int
    last_step: int
    status: str
    answers: int
    is_killed: bool


class _Connection(asyncpg.Connection):
    """A connection that knows which organizations exist for it."""

    _seen: str | None = None

    async def see(self, organizations: set[UUID]) -> None:
        """From now on only these exist; costs a round trip where others did."""
        wanted = ",".join(sorted(map(str, organizations)))
        if wanted != self._seen:
            self._seen = None  # until the server has said so
            await self.execute(f"select set_config('app.organization_ids', '{{{wanted}}}', false)")
            self._seen = wanted


class Rows:
    """The batch role's connections, and what the engine does with them."""

    def __init__(
        self, kept: asyncpg.Pool[asyncpg.Record], forgettable: asyncpg.Pool[asyncpg.Record], worker_id: str
    ) -> None:  # fmt: skip
        self._kept, self._forgettable, self.worker_id = kept, forgettable, worker_id

    @classmethod
    async def open(cls, batch_dsn: str, worker_id: str) -> Rows:
        """Connect as the batch role."""
        kept = await _open_pool(batch_dsn, POOL_SIZE, _SESSION | {"synchronous_commit": "on"})
        try:
            quick = await _open_pool(batch_dsn, FORGETTABLE_POOL_SIZE, _SESSION | {"synchronous_commit": "off"})
        except BaseException:
            kept.terminate()
            raise
        return cls(kept, quick, worker_id)

    async def close(self) -> None:
        """Hang up."""
        self._kept.terminate()
        self._forgettable.terminate()

    async def claim(self, asked: Sequence[tuple[Dispatch, bool]]) -> list[ClaimedRun | None]:
        """Take these runs (each with whether its message was redelivered); None for those not to be had."""
        ordered = sorted(set(asked))
        columns: list[list[Any]] = [
            [dispatch.organization_id for dispatch, _ in ordered],
            [dispatch.retention_class for dispatch, _ in ordered],
            [dispatch.run_id for dispatch, _ in ordered],
            [dispatch.token for dispatch, _ in ordered],
            [redelivered for _, redelivered in ordered],
        ]
        # A claim that is forgotten is found by the first write, before anything is done that is not done twice.
        rows = await self.fetch(set(columns[0]), CLAIM, *columns, self.worker_id, is_kept=False)
        claimed = {row["id"]: ClaimedRun.of(row) for row in rows}
        # The same run asked for twice in one batch is had once.
        return [claimed.pop(dispatch.run_id, None) for dispatch, _ in asked]

    async def write(self, writes: Sequence[RunWrite]) -> list[str | None]:
        """Store these; each run's status afterwards, or None where the fence did not hold and nothing was stored."""
        ordered = sorted(writes, key=lambda write: write.run.id)
        runs = _columns((write.run_values() for write in ordered), 20)
        steps = _columns((row for write in ordered for row in write.steps), len(StepRow._fields))
        facts = _columns((row for write in writes for row in write.facts), len(FactRow._fields))
        organizations = {write.run.organization_id for write in writes}
        rows = await self.fetch(organizations, WRITE, *runs, *steps, *facts)
        if any(write.wake_at is not None for write in writes):
            await self.fetch(organizations, "select pg_notify($1, '')", WAITING, is_kept=False)
        if any(write.stirs_children or (write.ended and write.run.parent_step_id) for write in writes):
            await self.fetch(organizations, "select pg_notify($1, '')", CHILDREN, is_kept=False)
        stored: dict[UUID, str] = {row["id"]: row["status"] for row in rows}
        return [stored.get(write.run.id) for write in writes]

    async def standing(self, run: ClaimedRun) -> Standing | None:
        """How the run's row stands now."""
        rows = await self.fetch({run.organization_id}, STAND, run.organization_id, run.retention_class, run.id)
        return Standing(*rows[0]) if rows else None

    async def steps(self, run: ClaimedRun) -> list[asyncpg.Record]:
        """What earlier holders of the run have stored, in the order it was started."""
        return await self.fetch({run.organization_id}, STEPS, run.organization_id, run.retention_class, run.id)

    async def recorded(self, run: ClaimedRun, key: StepKey) -> asyncpg.Record | None:
        """What the run that this one was forked from has stored as the output of a step."""
        return await self.fetch_one(run.organization_id, RECORDED, run.organization_id, run.forked_from, *key)

    async def fetch_one(self, organization_id: UUID, statement: str, *values: object) -> asyncpg.Record | None:
        """One row of one organization."""
        rows = await self.fetch({organization_id}, statement, *values)
        return rows[0] if rows else None

    async def fetch(
        self, organizations: set[UUID], statement: str, *values: object, is_kept: bool = True
    ) -> list[asyncpg.Record]:
        """Run one statement, which is its own transaction, where only these organizations exist.

        The organizations are the session's, not the transaction's: one round trip instead of four, two where the
        connection was last used for others. What may be lost where PostgreSQL itself crashes (not `is_kept`) is not
        waited for until it is on disk.
        """
        async with (self._kept if is_kept else self._forgettable).acquire() as connection:
            await connection.see(organizations)  # type: ignore[attr-defined]  # the pool's wrapper hands it on
            return await connection.fetch(statement, *values)


def bare_step(run: ClaimedRun, key: StepKey, kind: str, number: int, step_number: int) -> StepRow:
    """A step that nobody was called for, as skipped now; whoever makes something else of it says so."""
    now = utc_now()
    return StepRow(
        run.organization_id, run.retention_class, run.id, run.token, key.node, key.iteration, number, new_id(),
        step_number, kind, "read", None, None, "", StepStatus.SKIPPED, None, None, None, None, None, None, False,
        "", "", "", 0, 0, 0, now, now,
    )  # fmt: skip


def plain(value: Any) -> Any:
    """The value with asyncpg's own kind of UUID, which orjson does not know, made an ordinary one."""
    return UUID(bytes=value.bytes) if isinstance(value, UUID) else value


def is_gone(error: BaseException) -> bool:
    """Whether the database went away, so that nobody knows what it stored."""
    return isinstance(error, (*GONE, TimeoutError, asyncpg.OperatorInterventionError))


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[Sequence[Any]]:
    columns: list[Sequence[Any]] = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]


async def _open_pool(dsn: str, size: int, session: dict[str, str]) -> asyncpg.Pool[asyncpg.Record]:
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        reset=_keep,
        command_timeout=15,
        server_settings=session,
        connection_class=_Connection,
    )


async def _keep(_connection: Any) -> None:
    """Between uses of a connection nothing is reset: every use says which organizations it is for."""
