"""The relay: moves a service's committed facts from its outbox to its numbered log, and publishes that to its stream.

The log is the truth and the stream a copy of it. A number exists once the move has committed, and only then is it
published. The relay keeps no other state: the broker says which number it has, everything above that goes out again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TypeAlias

import asyncpg
from rstream import schema
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.auth import Signer
from chassis.clock import utc_now
from chassis.telemetry import FACTS_PUBLISHED, RELAY_LAG, batch_span, logger
from spine.fact_message import encode, encode_attestation
from spine.stream import Link, LostError, StreamPlace, create_stream, keep_running, stream_of

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

BATCH = 500
WINDOW = 8
"""Batches on their way to the broker without its confirm."""
FRAME_BYTES = 900_000
BUSY_ROWS = range(16, 256)
"""A batch of so many says that more are coming, and waiting fills the next; a lone fact is never delayed."""
PACE_SECONDS = 0.02
POLL_SECONDS = 1
CONFIRM_SECONDS = 10
ATTEST_SECONDS = 5
UPKEEP_SECONDS = 3600

COLUMNS = "sequence, epoch, organization_sequence, id, type, organization_id, traceparent, body"
# One statement, always from the lowest pos. The head is compared and set inside it: whoever does not know the head gets
# a null number, and NOT NULL undoes all of it, the delete included.
MOVE = f"""
with taken as (
  delete from outbox where pos = any (array(select pos from outbox order by pos limit $4)) returning *
), head as (
  update fact_head set sequence = $3 + (select count(*) from taken)
  where stream = $1 and epoch = $2 and sequence = $3 and exists (select from taken) returning sequence
), counted as (
  select organization_id, count(*) as facts from taken group by organization_id
), organization as (
  insert into organization_head as h (organization_id, epoch, sequence)
  select organization_id, $2, facts from counted order by organization_id
  on conflict (organization_id) do update set epoch = excluded.epoch,
    sequence = excluded.sequence + case when h.epoch = excluded.epoch then h.sequence else 0 end
  returning organization_id, sequence
), moved as (
  insert into fact_log ({COLUMNS})
  select case when exists (select from head) then $3 + row_number() over (order by pos) end, $2,
    organization.sequence - facts + row_number() over (partition by taken.organization_id order by pos),
    id, type, taken.organization_id, traceparent, body
  from taken join organization using (organization_id) join counted using (organization_id)
  returning {COLUMNS}
)
select {COLUMNS} from moved order by sequence"""  # noqa: S608  (column names of our own)
READ = f"select {COLUMNS} from fact_log where sequence > $1 order by sequence limit $2"  # noqa: S608


class Relay:
    """The one publisher of a service's stream. Any number may run: a lock picks one, a stale one can change nothing."""

    def __init__(
        self, service: str, relay_dsn: str, place: StreamPlace, signer: Signer | None = None, *, keep_days: int = 7
    ) -> None:
        self.service, self.stream, self.signer, self.keep_days = service, stream_of(service), signer, keep_days
        self.stir = asyncio.Event()
        self.due = True
        self._dsn, self._place = relay_dsn, place

    def wake(self) -> None:
        """There are new facts: call after their commit, from the same process."""
        self.due = True
        self.stir.set()

    async def run(self) -> None:
        """Relay until cancelled."""
        await keep_running(self._life, f"{self.service}.relay", pause=lambda _: 0.2)

    async def _life(self) -> None:
        name, lock = f"remit {self.service} relay", f"relay:{self.stream}"
        async with Link(self._place, name, (self.stream,), dsn=self._dsn, lock=lock) as link:
            await _Turn(self, link).run()


class _Turn:
    """One relay's time as the active one: from getting the lock to losing a connection."""

    def __init__(self, relay: Relay, link: Link) -> None:
        self.relay, self.link, self.database = relay, link, link.database
        self.log = logger(service=relay.service)
        self.clock = asyncio.get_running_loop().time
        self.epoch = self.head = self.taken = self.published = self.acknowledged = self.confirmed = (
            self.attestations
        ) = 0
        self.window: list[int] = []
        self.heard = self.saved_at = self.clock()
        self.attested_at = self.kept_at = float("-inf")

    async def run(self) -> None:
        await self._start()
        rows: Sequence[asyncpg.Record] = ()
        while True:
            self.link.check()
            self.relay.stir.clear()
            self._check_confirms()
            # The database moves the next rows while we encode and send those before.
            rows, _ = await asyncio.gather(self._next_rows(), self._publish(rows))
            await self._upkeep()
            if len(rows) in BUSY_ROWS:
                await asyncio.sleep(PACE_SECONDS)
            if not rows and not self._can_go_on():
                await self._rest()

    def _can_go_on(self) -> bool:
        return len(self.window) < WINDOW and (self.relay.due or self.taken < self.head)

    async def _start(self) -> None:
        client = self.link.client
        client.add_handler(schema.PublishConfirm, self._on_confirm, "relay")
        client.add_handler(schema.PublishError, lambda frame: self.link.fail(f"refused {frame.errors[:1]}"), "relay")
        await create_stream(client, self.relay.stream)
        await self.database.execute("select fact_log_make_days(3)")
        await self.database.execute(
            "insert into fact_head values ($1, 1, 0, 0) on conflict do nothing", self.relay.stream
        )
        # Lock, LISTEN, move and log reads share one connection: the server frees the lock only after its last move.
        await self.database.add_listener("outbox", lambda *_: self.relay.wake())
        await client.declare_publisher(self.relay.stream, self.relay.service, 0)
        await client.declare_publisher(self.relay.stream, "", 1)  # attestations: no reference, no numbers
        await self._agree()
        self.relay.due = True

    async def _agree(self) -> None:
        """Compare the broker with the log: behind it, publish again; ahead of it, a restored database forgot facts."""
        row = await self.database.fetchrow(
            "select epoch, sequence, confirmed from fact_head where stream = $1", self.relay.stream
        )
        if row is None:
            raise LostError("the head of the log is gone")
        self.epoch, self.head, self.confirmed = row
        have = await self._broker_has()
        if have < self.confirmed:
            self.log.error("stream_lost_facts", first=have + 1, last=self.confirmed)
        if have > self.head:
            self.log.error("log_forgot_facts", first=self.head + 1, last=have)
            self.epoch, self.head = await new_epoch(self.database, self.relay.stream, above=have), have
        self.taken = self.published = self.acknowledged = have
        self.confirmed = min(have, self.confirmed)

    async def _broker_has(self) -> int:
        client = self.link.client
        # The library's query_publisher_sequence turns an error into 0.
        question = schema.QueryPublisherSequence(
            client._corr_id_seq.next(),  # noqa: SLF001
            publisher_ref=self.relay.service,
            stream=self.relay.stream,
        )
        return (await client.sync_request(question, schema.QueryPublisherSequenceResponse)).sequence

    def _on_confirm(self, frame: schema.PublishConfirm) -> None:
        if frame.publisher_id == 0:
            before, self.acknowledged = self.acknowledged, max(self.acknowledged, *frame.publishing_ids)
            FACTS_PUBLISHED.labels(self.relay.service).inc(self.acknowledged - before)
            self.heard = self.clock()
            self.relay.stir.set()

    def _check_confirms(self) -> None:
        self.window = [last for last in self.window if last > self.acknowledged]
        RELAY_LAG.labels(self.relay.service).set(self.head - self.acknowledged)
        if not self.window:
            self.heard = self.clock()
        elif self.clock() - self.heard > CONFIRM_SECONDS:
            raise LostError(f"{CONFIRM_SECONDS} s without a confirm")

    async def _next_rows(self) -> Sequence[asyncpg.Record]:
        if not self._can_go_on():
            return ()
        if self.taken < self.head:
            return await self._logged_rows()
        self.relay.due = False
        rows = await self.database.fetch(MOVE, self.relay.stream, self.epoch, self.head, BATCH)
        self.head += len(rows)
        self.taken = self.head
        self.relay.due = self.relay.due or len(rows) == BATCH
        return rows

    async def _logged_rows(self) -> Sequence[asyncpg.Record]:
        rows = await self.database.fetch(READ, self.taken, BATCH)
        if not rows or rows[0]["sequence"] != self.taken + 1:
            # Nobody has them: a new epoch's void, or beyond retention. A reader finds the gap, asks, and is told.
            first = rows[0]["sequence"] if rows else self.head + 1
            self.log.error("numbers_without_facts", first=self.taken + 1, last=first - 1)
            self.taken = self.published = first - 1
        self.taken = rows[-1]["sequence"] if rows else self.taken
        return rows

    async def _publish(self, rows: Sequence[asyncpg.Record]) -> None:
        if not rows:
            return
        with batch_span("publish facts", self.relay.service, (row["traceparent"] for row in rows), facts=len(rows)):
            frame: list[schema.Message] = []
            size = 0
            for row in rows:
                message = schema.Message(row["sequence"], None, encode(row))
                if frame and size + len(message.data) > FRAME_BYTES:
                    await self.link.client.send_publish_frame(schema.Publish(0, frame))
                    frame, size = [], 0
                frame.append(message)
                size += len(message.data) + 12
            await self.link.client.send_publish_frame(schema.Publish(0, frame))
        self.published = max(self.published, rows[-1]["sequence"])
        self.window.append(self.published)

    async def _upkeep(self) -> None:
        now = self.clock()
        if self.acknowledged > self.confirmed and now - self.saved_at >= POLL_SECONDS:  # for alarms and retention only
            self.saved_at, self.confirmed = now, self.acknowledged
            await self.database.execute(
                "update fact_head set confirmed = $2 where stream = $1 and epoch = $3",
                self.relay.stream, self.confirmed, self.epoch,
            )  # fmt: skip
        if now - self.attested_at >= ATTEST_SECONDS:
            self.attested_at = now
            await self._attest()
        if now - self.kept_at >= UPKEEP_SECONDS:
            self.kept_at = now
            await self.database.execute("select fact_log_make_days(3)")
            await self.database.execute("select fact_log_drop_days($1)", self.relay.keep_days)

    async def _attest(self) -> None:
        # Everything up to `published` lies before this on the stream: it goes out on the same connection.
        word = encode_attestation(
            self.relay.service, self.epoch, self.published, utc_now().isoformat(), self.relay.signer
        )
        self.attestations += 1
        message = schema.Message(self.attestations, None, word)
        await self.link.client.send_publish_frame(schema.Publish(1, [message]))

    async def _rest(self) -> None:
        """Until somebody wakes us or a confirm comes; the poll is the net, and keeps the idle session alive."""
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self.relay.stir.wait()
        except TimeoutError:
            self.relay.due = True


async def new_epoch(connection: Connection, stream: str, *, above: int) -> int:
    """Go on numbering above `above` in a new epoch and record the void; obligatory after every restore. Returns it."""
    async with connection.transaction():
        row = await connection.fetchrow("select epoch, sequence from fact_head where stream = $1 for update", stream)
        if row is None:
            raise LostError(f"{stream} has no head: it was never published")
        epoch, last = row["epoch"] + 1, row["sequence"]
        head = max(last, above)
        await connection.execute(
            "insert into fact_epoch (epoch, first_sequence, last_before) values ($1, $2, $3)", epoch, head + 1, last
        )
        await connection.execute(
            "update fact_head set epoch = $2, sequence = $3 where stream = $1", stream, epoch, head
        )
    return int(epoch)


class Notifier:
    """Wakes the relay in another process: at most one NOTIFY per 5 ms, in a transaction of its own.

    Inside the business transactions it would make their commits wait for each other.
    """

    def __init__(self, engine: AsyncEngine, *, interval_seconds: float = 0.005) -> None:
        self._engine, self._interval = engine, interval_seconds
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def wake(self) -> None:
        """There are new facts: call after their commit."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._notify())

    async def close(self) -> None:
        """Stop; what was not sent, the relay's poll finds."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _notify(self) -> None:
        while self._again:
            await asyncio.sleep(0)  # whom the same commit has set free, such as a run's start, goes first
            self._again = False
            try:
                async with self._engine.connect() as connection:
                    await connection.exec_driver_sql("notify outbox")
            except Exception as error:  # noqa: BLE001  (the relay's poll is the net)
                logger().warning("relay_not_woken", error=type(error).__name__)
            await asyncio.sleep(self._interval)
