"""The unit of work: one transaction, one organization, one caller, one clock, one outbox. All the house hands on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import asyncpg
from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from chassis.caller import Caller
from chassis.clock import utc_now
from chassis.db import GONE, Row, begin, begin_statement, is_away
from chassis.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from chassis.ids import new_id
from chassis.permits import Permit
from chassis.telemetry import span
from contracts.envelope import Fact, wrap

if TYPE_CHECKING:
    from sqlalchemy.sql import Executable

    from chassis.settings import ServiceSettings

R = TypeVar("R", bound=Row)
UNIQUE_VIOLATION = "23505"

INSERT_OUTBOX = """insert into outbox (id, type, organization_id, traceparent, body)
select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::bytea[])"""


class UnitOfWork:
    """What a use case works with: rows and facts that leave together or not at all.

    Rows of other organizations do not exist in it; the database sees to that. Nobody commits: leaving the door does.
    """

    def __init__(self, units: Units, session: AsyncSession, raw: Any, caller: Caller, permit: Permit) -> None:
        self.caller = caller
        self.settings = units.settings
        self.permit = permit
        self.now: datetime = utc_now()
        self._units = units
        self._session = session
        self._raw = raw
        self._facts: list[tuple[Fact, Caller, UUID]] = []
        self._after: list[Callable[[], None]] = []

    @property
    def organization_id(self) -> UUID:
        """The one organization this unit of work sees."""
        return self.caller.organization_id

    async def get(self, row: type[R], row_id: UUID, *, lock: bool = False) -> R:
        """The row with this id, locked for update if asked; NotFoundError for nothing and for strangers alike.

        Where the caller's right reaches only its own, others' rows do not exist either. A policy of the organization
        that looks at the thing itself is asked here (ForbiddenError).
        """
        noun = noun_of(row)
        found = await self.find(row, row_id, lock=lock)
        if found is None:
            raise NotFoundError(f"There is no {noun.replace('_', ' ')} with this id.")
        self.permit.check(noun, str(row_id), _attributes(found))
        return found

    async def find(self, row: type[R], row_id: UUID, *, lock: bool = False) -> R | None:
        """The row with this id, or None; asks no policy."""
        if lock:
            await self._session.flush()  # reading the row anew would forget what was changed here
        return await self._session.get(row, row_id, with_for_update=lock or None, populate_existing=lock)

    async def first(self, statement: Executable) -> Any:
        """The first result's first column (an ORM row, usually), or None."""
        return (await self._session.execute(statement)).scalars().first()

    async def all(self, statement: Executable) -> Sequence[Any]:
        """Every result's first column. The statement states its limit."""
        return (await self._session.execute(statement)).scalars().all()

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Every result row, for statements of several columns; empty for statements that return nothing."""
        result: Any = await self._session.execute(statement, parameters)
        # A select of several ORM columns gives a result that does not say so, because it always has rows.
        return result.all() if getattr(result, "returns_rows", True) else ()

    async def fetch(self, sql: str, *values: Any) -> Sequence[Any]:
        """The result rows of plain SQL with $1 parameters, as the driver hands them over: for measured hot paths."""
        rows: Sequence[Any] = await self._raw.fetch(sql, *values)
        return rows

    async def add(self, row: R, *, conflict: str | None = None) -> R:
        """Insert a row now, so that what it violates is known here.

        `conflict` is the detail of the ConflictError (code `already_exists`) when a natural key is taken: then nothing
        of this row is written and the unit of work goes on. For a row that is there already, its changes are sent.
        Rows read before are no longer the session's after such a refusal: read them again.
        """
        if conflict is None:
            self._session.add(row)
            await self._session.flush()
            return row
        if row not in self._session:
            await self._session.flush()  # what came before is not undone with this row
        await self._raw.execute("savepoint added")
        self._session.add(row)
        try:
            await self._session.flush()
        except IntegrityError as error:
            await self._undo_to("added")
            if getattr(error.orig, "sqlstate", "") == UNIQUE_VIOLATION:
                raise ConflictError(conflict, code="already_exists") from error
            raise
        await self._raw.execute("release savepoint added")
        return row

    async def add_all(self, rows: Sequence[Row]) -> None:
        """Insert many rows now, of one table in one round trip."""
        self._session.add_all(rows)
        await self._session.flush()

    async def delete(self, row: Row) -> None:
        """Delete a row."""
        await self._session.delete(row)

    async def flush(self) -> None:
        """Send pending changes to the database now; committing is the door's business."""
        await self._session.flush()

    def emit(self, fact: Fact, *, organization_id: UUID | None = None) -> UUID:
        """Publish a fact with this unit of work, after its rows and never without them; returns the fact's id."""
        caller = self.caller if organization_id is None else self.caller.within(organization_id)
        fact_id = new_id()
        self._facts.append((fact, caller, fact_id))
        return fact_id

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call once everything is durable; for wake-ups only, a crash may lose it."""
        self._after.append(call)

    async def become(self, caller: Caller) -> None:
        """Go on in another organization within the same transaction: for consumers, who read many organizations'."""
        await self._flush_facts()
        if caller.organization_id != self.caller.organization_id:
            self._session.expunge_all()
            await self._raw.execute(f"select set_config('app.organization_id', '{caller.organization_id}', true)")
        self.caller = caller

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """One part that may fail alone: kept whole, or undone whole when it raises, its facts included.

        Rows read before are no longer the session's after a failure: read them again.
        """
        return self._savepoint()

    @asynccontextmanager
    async def _savepoint(self) -> AsyncIterator[None]:
        """For consumers: what the block did is kept whole, or undone whole when it raises, its facts included."""
        await self._flush_facts()
        caller, wakes = self.caller, len(self._after)
        await self._raw.execute("savepoint consumed")
        try:
            yield
            await self._flush_facts()
        except Exception:
            self._facts.clear()
            del self._after[wakes:]
            await self._undo_to("consumed")
            self.caller = caller
            raise
        await self._raw.execute("release savepoint consumed")

    async def _undo_to(self, savepoint: str) -> None:
        self._session.expunge_all()
        await self._session.rollback()  # ends the session's own bookkeeping; the transaction is ours and goes on
        await self._raw.execute(f"rollback to savepoint {savepoint}; release savepoint {savepoint}")

    async def _flush_facts(self) -> None:
        await self._session.flush()
        if not self._facts:
            return
        columns: tuple[list[Any], ...] = ([], [], [], [], [])
        for fact, caller, fact_id in self._facts:
            body = wrap(
                fact,
                fact_id=fact_id,
                source=self.settings.service,
                time=self.now,
                organization_id=caller.organization_id,
                actor_type=caller.kind,
                actor_id=caller.id,
                traceparent=caller.traceparent,
                correlation_id=caller.correlation_id,
                causation_id=caller.causation_id,
            )
            for column, value in zip(
                columns, (fact_id, fact.type, caller.organization_id, caller.traceparent, body), strict=True
            ):
                column.append(value)
        self._facts.clear()
        await self._raw.execute(INSERT_OUTBOX, *columns)
        self._after.append(self._units.wake_relay)

    async def _finish(self) -> None:
        await self._flush_facts()
        await self._raw.execute("commit")
        for call in self._after:
            call()


def noun_of(row: type[Row]) -> str:
    """The noun of permissions about these rows: the table's name, or `noun` where that is a word SQL has taken."""
    noun: str = getattr(row, "noun", row.__tablename__)
    return noun


def _attributes(row: Row) -> dict[str, Any]:
    """What a policy may look at: the row's short columns, ids as text."""
    values: dict[str, Any] = {}
    for attribute in inspect(type(row)).column_attrs:
        value = getattr(row, attribute.key)
        if isinstance(value, UUID):
            values[attribute.key] = str(value)
        elif value is None or isinstance(value, (str, int, bool, float, datetime)):
            values[attribute.key] = value
    return values


@dataclass
class Units:
    """Where a service's units of work come from."""

    engine: AsyncEngine
    settings: ServiceSettings
    wake_relay: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def begin(self, caller: Caller, permit: Permit | None = None) -> AsyncIterator[UnitOfWork]:
        """One unit of work: committed when the block ends, rolled back when it raises.

        A conflict with a concurrent transaction is ConflictError or UnavailableError, never half a change.
        """
        with span("transaction", service=self.settings.service):
            async with begin(self.engine, caller.organization_id) as (connection, raw):
                session = AsyncSession(bind=connection, expire_on_commit=False, autoflush=False)
                uow = UnitOfWork(self, session, raw, caller, permit or Permit.system())
                try:
                    yield uow
                    await uow._finish()  # noqa: SLF001  (the one place that commits)
                except DBAPIError as error:
                    state = getattr(error.orig, "sqlstate", "")
                    raise _translated(state, gone=error.connection_invalidated) or error from error
                except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                    state = getattr(error, "sqlstate", "")
                    raise _translated(state, gone=isinstance(error, GONE)) or error from error
                finally:
                    session.sync_session.expunge_all()

    async def again(self, uow: UnitOfWork) -> None:
        """Commit what a consumer has so far and go on in a new transaction of the same connection."""
        await uow._finish()  # noqa: SLF001
        await uow._raw.execute(begin_statement(uow.organization_id))  # noqa: SLF001


def _translated(sqlstate: str | None, *, gone: bool) -> Exception | None:
    state = sqlstate or ""
    if state in ("40001", "40P01", "55P03"):
        return ConflictError("Somebody else is changing the same thing. Try again.", code="busy", retry_after_seconds=1)
    if state == "57014":
        return UnavailableError("The query took too long and was stopped.", code="query_timeout", retry_after_seconds=5)
    if state in ("22021", "22P05"):
        return InvalidError("A text holds a character that cannot be stored, such as NUL.", code="invalid_text")
    if gone or is_away(state):
        return UnavailableError("The database does not answer.", retry_after_seconds=1)
    return None
