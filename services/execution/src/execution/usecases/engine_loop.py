"""The engine's worker: takes runs from the queue and holds each until it has ended or waits."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from chassis.ids import new_id
from chassis.objects import NoObjects, Objects
from chassis.sealing import Keyring
from chassis.telemetry import logger
from chassis.uow import Units
from execution.clients.agents import AgentRunner
from execution.clients.dispatch import QUEUE, Delivery, Line
from execution.domain.runs import RunStatus, StopReason
from execution.usecases.engine_attempts import Attempts
from execution.usecases.engine_batches import LANES, Batches
from execution.usecases.engine_definitions import Definitions
from execution.usecases.engine_detached import DetachedCalls
from execution.usecases.engine_prices import Prices
from execution.usecases.engine_rows import Rows, RunWrite, is_gone
from execution.usecases.engine_runs import RunInHand
from execution.usecases.engine_statements import FEW, KEYED_PLANS, LEASE_SECONDS
from execution.usecases.engine_workshop import Workshop
from execution.usecases.engine_writing import LostRunError
from execution.usecases.run_texts import TextSource
from spine.stream import keep_running

if TYPE_CHECKING:
    from spine.service import Running

SLOTS = 256
"""Runs in hand at once: the size of a flush is the lever on throughput."""
PULSE_SECONDS = 0.4
"""How soon a worker hears that a run is to be stopped or was taken over."""
BEATS_PER_LEASE = 8
"""Every eighth pulse, about three seconds, also renews the leases."""
YOUNG_SECONDS = 0.3
"""Runs in hand for less need no pulse; most end before."""
HOLD_SECONDS = 600.0
"""Then a message is acknowledged all the same, long before the broker would close the channel over it (30 minutes):
from there on the lease alone says that somebody works on the run."""
RETURN_SECONDS = 1.0
log = logger(part="engine")

_PULSE = f"""select r.id, r.token, r.status, r.answers from unnest($1::smallint[], $2::uuid[]) as i(retention_class, id)
join run r on r.retention_class = i.retention_class and r.id = i.id where i.retention_class {FEW}"""  # noqa: S608
# A row that a write is busy with has its lease from that write; to wait for it would invite a deadlock.
_RENEW = f"""with held as (
  select r.retention_class, r.id from unnest($1::smallint[], $2::uuid[], $3::bigint[]) as i(retention_class, id, token)
  join run r on r.retention_class = i.retention_class and r.id = i.id
  where i.token {FEW} and r.token = i.token and r.status in ('running', 'cancelling') for update of r skip locked
)
update run r set lease_until = now() + interval '{LEASE_SECONDS} s' from held
where r.retention_class = held.retention_class and r.id = held.id"""  # noqa: S608  (a number of our own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the engine's databases and broker are."""

    batch_dsn: str = field(repr=False)
    sweep_dsn: str = field(repr=False)
    amqp_url: str = field(repr=False)
    queue: str = QUEUE


def addresses_of(running: Running) -> Addresses:
    """Those of a started service."""
    return Addresses(
        batch_dsn=running.secret("batch_database_url"),
        sweep_dsn=running.secret("sweep_database_url"),
        amqp_url=running.settings.amqp_url.get_secret_value(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a worker calls, and how much of it at once."""

    agents: AgentRunner
    objects: Objects = field(default_factory=NoObjects)
    keyring: Keyring | None = None
    slots: int = SLOTS
    lanes: int = LANES
    detach_seconds: float = 300.0
    """A run that does nothing but what takes longer gives up its slot and its place meanwhile."""
    on_ended: Callable[[list[UUID]], None] = lambda _: None
    """Called with runs that have ended or wait: wakes whoever waits for them."""
    texts: TextSource | None = None
    """Where what models write goes while they write it."""


def engine(options: Options) -> Callable[[Running], Coroutine[Any, Any, None]]:
    """The worker for `Service(workers=[...])`, whose relay hears of every commit."""

    async def run_engine(running: Running) -> None:
        await EngineWorker(addresses_of(running), options, running.units).run()

    return run_engine


class EngineWorker:
    """Works on runs until cancelled; what it held goes to others then, detached calls once their leases are over."""

    def __init__(self, addresses: Addresses, options: Options, units: Units | None = None) -> None:
        self.worker_id = f"{socket.gethostname()}:{os.getpid()}:{new_id().hex[-8:]}"
        self._addresses, self._options, self._units = addresses, options, units
        self._in_hand: dict[UUID, RunInHand] = {}
        self._claiming: dict[UUID, list[Delivery]] = {}
        """Runs that are being claimed, with the further messages that came for them meanwhile."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        rows = await self._connected()
        shop = self._workshop(rows)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(keep_running(lambda: self._listen(shop), "engine", pause=lambda _: 0.5))
                tasks.create_task(keep_running(self._pulses, "engine.pulse", pause=lambda _: 0.5))
                if shop.detached is not None:
                    tasks.create_task(keep_running(shop.detached.pulse, "engine.detached", pause=lambda _: 0.5))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if shop.detached is not None:
                await shop.detached.close()
            await rows.close()

    async def _connected(self) -> Rows:
        while True:
            try:
                return await Rows.open(self._addresses.batch_dsn, self.worker_id)
            except Exception as error:
                if not is_gone(error):
                    raise
                log.warning("the engine's database does not answer", error=repr(error)[:200])
            await asyncio.sleep(1)

    def _workshop(self, rows: Rows) -> Workshop:
        options, units, detached = self._options, self._units, None
        if units is not None:
            detached = DetachedCalls(rows, units, after_seconds=options.detach_seconds, most=options.slots)
        definitions = Definitions(rows, options.keyring)
        attempts = Attempts(options.agents, options.objects, rows, definitions, Prices(rows), options.texts)
        self._claims = Batches(rows.claim, lanes=options.lanes)

        async def write(writes: Sequence[RunWrite]) -> list[str | None]:
            stored = await rows.write(writes)
            if units is not None:
                units.wake_relay()
            return stored

        return Workshop(rows, Batches(write, lanes=options.lanes), definitions, attempts, detached)

    async def _listen(self, shop: Workshop) -> None:
        line = await Line.open(self._addresses.amqp_url, queue=self._addresses.queue, prefetch=self._options.slots)
        try:
            await line.consume(lambda delivery: self._take(shop, delivery))
            await line.lost.wait()
            raise ConnectionError("the broker hung up")
        finally:
            await line.close()

    def _take(self, shop: Workshop, delivery: Delivery) -> None:
        run_id = delivery.dispatch.run_id
        held = self._in_hand.get(run_id)
        if held is not None:
            if delivery.dispatch.token >= held.run.token:
                held.following.append(delivery)  # the run's next turn: it was let go, and answered at once
            elif held.delivery.line.lost.is_set():
                held.delivery, held.is_released = delivery, False  # the broker gave us again what is in our hands
            else:
                delivery.done()
        elif run_id in self._claiming:
            # Two messages of one run, one of them redelivered: the later claim would take it from the earlier one.
            self._claiming[run_id].append(delivery)
        else:
            self._claiming[run_id] = []
            task = asyncio.get_running_loop().create_task(self._work(shop, delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, shop: Workshop, delivery: Delivery) -> None:
        run_id, failed, held = delivery.dispatch.run_id, False, None
        try:
            run = await self._claims.add((delivery.dispatch, delivery.redelivered))
            held = None if run is None else RunInHand(shop, run, delivery)
        except Exception as error:  # noqa: BLE001  (whatever it was, the message must go back)
            failed = True
            log.warning("claim failed", error=repr(error)[:300])
        if held is not None:
            self._in_hand[run_id] = held
        for other in self._claiming.pop(run_id):
            self._take(shop, other)
        if held is not None:
            await self._work_on(held)
            for other in held.following:
                self._take(shop, other)
        elif failed:
            await asyncio.sleep(RETURN_SECONDS)
            delivery.back()
        else:  # over, or in good hands
            delivery.done()

    async def _work_on(self, held: RunInHand) -> None:
        try:
            await self._drive(held)
        finally:
            if self._in_hand.get(held.run.id) is held:
                del self._in_hand[held.run.id]

    async def _drive(self, held: RunInHand) -> None:
        try:
            await held.drive()
        except LostRunError:
            log.info("run taken over by another worker", run_id=str(held.run.id))
        except Exception as error:  # noqa: BLE001  (one run must not take the others with it)
            log.warning("run returned to the queue", run_id=str(held.run.id), error=repr(error)[:300])
            await asyncio.sleep(RETURN_SECONDS)
            if not held.is_released:
                held.delivery.back()
            return
        if not held.is_released:
            held.delivery.done()
        self._options.on_ended([held.run.id])

    async def _pulses(self) -> None:
        """One statement for all runs in hand hears of cancels and takeovers, another renews their leases."""
        connection = await asyncpg.connect(
            self._addresses.sweep_dsn,
            timeout=5,
            command_timeout=5,
            server_settings=KEYED_PLANS
            | {"application_name": "remit-execution engine pulse", "synchronous_commit": "off"},
        )
        loop, beat = asyncio.get_running_loop(), 0
        try:
            while True:
                await asyncio.sleep(PULSE_SECONDS)
                beat += 1
                now = loop.time()
                held = [one for one in self._in_hand.values() if now - one.since > YOUNG_SECONDS]
                if not held:
                    continue
                columns = [[one.run.retention_class for one in held], [one.run.id for one in held]]
                tokens = [one.run.token for one in held]
                self._hear(await connection.fetch(_PULSE, *columns))
                if beat % BEATS_PER_LEASE == 0:
                    await connection.execute(_RENEW, *columns, tokens)
                    self._release_old(held, now)
        finally:
            connection.terminate()

    def _hear(self, rows: list[asyncpg.Record]) -> None:
        for run_id, token, status, answers in rows:
            held = self._in_hand.get(run_id)
            if held is None:
                continue
            if token != held.run.token:
                held.lose()
            elif status == RunStatus.CANCELLING:
                held.stop(StopReason.CANCELLED)
            elif answers != held.heard:
                held.hear(answers)

    def _release_old(self, held: list[RunInHand], now: float) -> None:
        for one in held:
            if now - one.since > HOLD_SECONDS and not one.is_released:
                one.is_released = True
                one.delivery.done()
