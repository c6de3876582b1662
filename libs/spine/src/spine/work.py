"""Commands: `@command(Command)` handlers, and the worker that runs them: once, with retries, never silently not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from uuid import UUID

import orjson
from faststream import AckPolicy
from faststream.rabbit import RabbitBroker, RabbitQueue
from faststream.rabbit.annotations import RabbitMessage

from chassis.auth import Trust
from chassis.caller import NOBODY, Caller
from chassis.errors import RefusalError, UnavailableError
from chassis.telemetry import COMMANDS_DONE, logger, span
from chassis.uow import UnitOfWork, Units
from contracts.chassis import ResendFacts, RestateRows, RowsRestated
from contracts.envelope import Command, Reply
from spine.asking import as_bytes, make_broker, topic
from spine.grants import ExpiredError, granted
from spine.stream import keep_running
from spine.topology import (
    PUBLISH_SECONDS,
    REPLIES,
    RETRY_SECONDS,
    command_name,
    dead_letters,
    retry_exchange,
    work_queue,
)

Restate = Callable[[UnitOfWork, UUID | None], Awaitable[int]]
"""Emit a noun's current rows as `...Restated` facts, of one organization or (None) of all; returns how many."""
Answer = Callable[[Any], Awaitable[Reply]]
"""Answers a command without a unit of work."""

Do = Callable[[RabbitMessage], Awaitable[bytes]]

PREFETCH = 16

_REMEMBER = """insert into inbox (id, organization_id, type) values ($1, $2, $3) on conflict do nothing returning id"""


@dataclass(frozen=True)
class CommandHandler:
    """What this service does when it is told to."""

    command: type[Command]
    call: Callable[[UnitOfWork, Any], Awaitable[Reply | None]]


def command(
    contract: type[Command],
) -> Callable[[Callable[[UnitOfWork, Any], Awaitable[Reply | None]]], CommandHandler]:
    """Declare `async def name(uow, command) -> Reply | None` as what carries out this command.

    It runs in the organization and with the rights of whoever the sender says is asking, once per command.
    """
    return lambda call: CommandHandler(contract, call)


def commands_in(*modules: ModuleType) -> list[CommandHandler]:
    """Every handler that these modules declare, in their order."""
    return [value for module in modules for value in vars(module).values() if isinstance(value, CommandHandler)]


class Worker:
    """Carries out what a service is told: acknowledged after the commit, retried, or put with the dead letters."""

    def __init__(
        self, service: str, handlers: Iterable[CommandHandler], *, units: Units, amqp_url: str, trust: Trust,
        resend: Answer | None = None, restate: Mapping[str, Restate] | None = None, prefetch: int = PREFETCH,
    ) -> None:  # fmt: skip
        self.service = service
        self._units, self._url, self._trust, self._prefetch = units, amqp_url, trust, prefetch
        self._restate = restate or {}
        self._handlers = [*handlers, CommandHandler(RestateRows, self._restate_rows)]
        self._resend = resend
        self._log = logger(service=service)

    async def run(self) -> None:
        """Work until cancelled."""
        await keep_running(self._life, f"{self.service}.work", pause=lambda _: 1)

    async def _life(self) -> None:
        broker = make_broker(self._url, self._prefetch)
        for handler in self._handlers:
            self._subscribe(broker, handler.command, self._in_transaction(handler))
        if self._resend:
            self._subscribe(broker, ResendFacts, self._without(ResendFacts, self._resend))
        try:
            await broker.start()
            await self._purge_forever()
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5):
                    await broker.stop()

    def _subscribe(self, broker: RabbitBroker, contract: type[Command], do: Do) -> None:
        async def handle(message: RabbitMessage) -> None:
            outcome = await self._deliver(broker, contract, message, do)
            COMMANDS_DONE.labels(self.service, contract.type, outcome).inc()

        queue = RabbitQueue(work_queue(self.service, contract), declare=False)
        broker.subscriber(queue, ack_policy=AckPolicy.MANUAL, no_reply=True, decoder=as_bytes)(handle)

    async def _deliver(
        self, broker: RabbitBroker, contract: type[Command], message: RabbitMessage,
        do: Do,
    ) -> str:  # fmt: skip
        try:
            reply, outcome = await do(message), "done"
        except ExpiredError as error:
            reply, outcome = b"", "expired"
            if not message.reply_to:
                await self._bury(broker, contract, message, error)
        except Exception as error:  # noqa: BLE001  (what it was decides what becomes of the command)
            if not _is_final(error):
                outcome = await self._later(broker, contract, message, error)
                await message.ack()
                return outcome
            reply, outcome = _refusal(error), "refused"
            if not message.reply_to:
                await self._bury(broker, contract, message, error)
        if reply and message.reply_to:
            await self._reply(broker, message, reply)
        await message.ack()
        return outcome

    def _in_transaction(self, handler: CommandHandler) -> Do:
        async def do(message: RabbitMessage) -> bytes:
            told = handler.command.model_validate_json(message.body)
            caller = granted(_header(message, "grant"), self._trust, handler.command.type, message.body)
            with span(handler.command.type, service=self.service, traceparent=caller.traceparent):
                async with self._units.begin(caller) as uow:
                    number = UUID(message.message_id)
                    if not await _remember(uow, number, handler.command.type):
                        return await _remembered(uow, number)
                    reply = await handler.call(uow, told)
                    answer = reply.json_bytes() if reply else b""
                    if answer and message.reply_to:
                        await uow._raw.execute("update inbox set reply = $2 where id = $1", number, answer)  # noqa: SLF001
                    return answer

        return do

    def _without(self, contract: type[Command], answer: Answer) -> Do:
        async def do(message: RabbitMessage) -> bytes:
            granted(_header(message, "grant"), self._trust, contract.type, message.body)
            return (await answer(contract.model_validate_json(message.body))).json_bytes()

        return do

    async def _restate_rows(self, uow: UnitOfWork, told: RestateRows) -> RowsRestated:
        restate = self._restate.get(told.noun)
        if restate is None:
            return RowsRestated(refused="unknown_noun", detail=f"{self.service} restates no {told.noun}")
        if told.organization_id:
            await uow.become(Caller.system(told.organization_id, f"{self.service}.restate"))
        return RowsRestated(count=await restate(uow, told.organization_id))

    async def _later(
        self, broker: RabbitBroker, contract: type[Command], message: RabbitMessage, error: Exception
    ) -> str:
        attempt = int(_header(message, "attempt") or 1)
        self._log.warning("command_failed", command=contract.type, attempt=attempt, error=repr(error)[:200])
        if attempt > len(RETRY_SECONDS):
            await self._bury(broker, contract, message, error)
            return "dead"
        key = f"{RETRY_SECONDS[attempt - 1]}.{command_name(contract)}"
        headers = {"grant": _header(message, "grant"), "attempt": attempt + 1}
        await self._put(broker, retry_exchange(self.service), key, message, headers)
        return "retried"

    async def _bury(
        self, broker: RabbitBroker, contract: type[Command], message: RabbitMessage, error: Exception
    ) -> None:
        self._log.error("command_parked", command=contract.type, error=repr(error)[:200])
        headers = {"grant": _header(message, "grant"), "error": f"{type(error).__name__}: {error}"[:500]}
        await self._put(broker, dead_letters(self.service), command_name(contract), message, headers)

    async def _put(
        self, broker: RabbitBroker, exchange: str, key: str, message: RabbitMessage, headers: dict[str, Any]
    ) -> None:
        await broker.publish(
            message.body, exchange=topic(exchange), routing_key=key, persist=True, timeout=PUBLISH_SECONDS,
            message_id=message.message_id, correlation_id=message.correlation_id, reply_to=message.reply_to or None,
            message_type=message.raw_message.type, content_type="application/json", headers=headers,
        )  # fmt: skip

    async def _reply(self, broker: RabbitBroker, message: RabbitMessage, reply: bytes) -> None:
        try:
            await broker.publish(
                reply, exchange=topic(REPLIES), routing_key=message.reply_to,
                correlation_id=message.correlation_id, content_type="application/json", timeout=PUBLISH_SECONDS,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  (whoever asked is gone; what was asked is done)
            self._log.info("nobody_waits", error=type(error).__name__)

    async def _purge_forever(self) -> None:
        while True:
            async with self._units.begin(Caller.system(NOBODY, f"{self.service}.work")) as uow:
                await uow._raw.execute("select inbox_purge(7)")  # noqa: SLF001
            await asyncio.sleep(3600)


def _header(message: RabbitMessage, name: str) -> str:
    return str(message.headers.get(name) or "")


def _is_final(error: Exception) -> bool:
    if isinstance(error, RefusalError):
        return not isinstance(error, UnavailableError) and error.code != "busy"
    return isinstance(error, ValueError)  # bytes that are no such command


def _refusal(error: Exception) -> bytes:
    code, detail = (error.code, error.detail) if isinstance(error, RefusalError) else ("invalid", str(error)[:500])
    return orjson.dumps({"refused": code, "detail": detail})


async def _remember(uow: UnitOfWork, number: UUID, kind: str) -> bool:
    """Note the command as done with this unit of work; False if it was done before."""
    return await uow._raw.fetchval(_REMEMBER, number, uow.organization_id, kind) is not None  # noqa: SLF001


async def _remembered(uow: UnitOfWork, number: UUID) -> bytes:
    """What was answered then."""
    answered: bytes = await uow._raw.fetchval("select reply from inbox where id = $1", number)  # noqa: SLF001
    return answered
