"""One attempt at one step: the caps, the call, what it used and cost. Whatever goes wrong, it ends as a row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import orjson

from chassis.clock import utc_now
from chassis.errors import RefusalError, UnavailableError
from chassis.ids import new_id
from chassis.objects import INLINE_BYTES, Objects
from chassis.telemetry import logger, span
from execution.clients.agents import (
    IN_DOUBT,
    INTERNAL,
    NOT_DONE,
    AgentCall,
    AgentError,
    AgentErrorCode,
    AgentResult,
    AgentRunner,
    OpenRequests,
)
from execution.domain.agents import LlmAgent
from execution.domain.documents import Json
from execution.domain.nodes import Effects
from execution.domain.prices import MAX_TOKENS_PER_CALL, PriceRow, UnknownPriceError
from execution.domain.retries import DEFAULT_RETRY, RetryPolicy, should_retry
from execution.domain.runs import OWN_CODES, StepStatus, Usage
from execution.domain.schemas import validate_input
from execution.domain.walk import Ready, StepKey
from execution.usecases.engine_definitions import AgentVersion, CredentialError, Definitions
from execution.usecases.engine_prices import Prices
from execution.usecases.engine_rows import ClaimedRun, Rows, StepRow, plain
from execution.usecases.run_texts import TextOf, TextSource

LONGEST_CALL_SECONDS = 3_600.0
OWN_END_SECONDS = 0.5
"""How much longer than it may take a model's call is waited for: only one that ends by itself tells what it used."""
MESSAGE_CHARACTERS = 2_000
BYTES_PER_TOKEN = 3
"""How few bytes a token of a prompt has, for what a call may use at most; real texts have about four."""
log = logger(part="engine")


class Stored(NamedTuple):
    """A payload as a row holds it: itself, or the key of its object."""

    inline: bytes | None
    reference: str | None


NOTHING = Stored(None, None)


@dataclass(slots=True)
class Attempt:
    """What is about to be done, and how it ended."""

    run: ClaimedRun
    ready: Ready
    number: int
    """Counts attempts at this step from 1."""
    step_number: int
    agent: AgentVersion | None
    seconds: float
    """How long the call may take."""
    tokens_left: int | None = None
    """How many the run may still use; None: as many as it likes."""
    max_tokens: int = 0
    """The most that all requests to models may use together; 0 where there is only one."""
    effects: str = "read"
    delay: float = 0.0
    """Seconds to wait before the call."""
    id: UUID = field(default_factory=new_id)
    prices: dict[tuple[str, str], PriceRow] = field(default_factory=dict)
    """What each model costs that may be asked, by provider and name."""
    asked: tuple[str, str] = ("", "")
    """Provider and name of the model that answered, and until then of the first that is asked."""
    estimate: Usage = field(default_factory=Usage)
    input: Stored = NOTHING
    output: Json = None
    stored: Stored = NOTHING
    error_code: str | None = None
    error_message: str | None = None
    retryable: bool = False
    played: UUID | None = None
    """The step of the forked run whose recorded output stands for the call, which is not made."""
    retry_after_seconds: float = 0.0
    will_retry: bool = False
    is_in_doubt: bool = False
    """Whether it is a write of which nobody knows whether it happened."""
    policy: RetryPolicy = DEFAULT_RETRY
    lost: int = 0
    """How many attempts before it were lost with their worker: these are no tries."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd_micros: int = 0
    open_requests: OpenRequests = field(default_factory=OpenRequests)
    """What was asked of models and is not answered."""
    called_at: float | None = None
    """When its call left, by the loop's clock; None while it only waits for its turn to be tried again."""
    started_at: datetime = field(default_factory=utc_now)
    completed_at: datetime | None = None

    @property
    def key(self) -> StepKey:
        """Which step it is an attempt at."""
        return StepKey(self.ready.node.id, self.ready.iteration)

    @property
    def price(self) -> PriceRow | None:
        """What the model that is asked costs; None for agents without one."""
        return self.prices.get(self.asked)

    @property
    def may_have_written(self) -> bool:
        """Whether its call has left and may change something, itself or by the tools of a model."""
        return self.called_at is not None and self.effects == Effects.WRITE

    def fail(self, code: str, message: str, *, retryable: bool = False) -> None:
        """It ended without an output."""
        self.error_code, self.error_message, self.retryable = code, message[:MESSAGE_CHARACTERS], retryable

    def count_open(self) -> None:
        """Count what was asked of models and never answered: as the most it may have used, because nobody tells."""
        for request in self.open_requests:
            self.input_tokens += request.input_tokens
            self.output_tokens += request.output_tokens
            price = self.prices.get((request.provider, request.model))
            if price is not None:
                self.cost_usd_micros += price.cost_usd_micros(request.input_tokens, request.output_tokens)
        self.open_requests = OpenRequests()

    def decide_retry(self) -> None:
        """Say whether it is tried again, now that it has failed.

        Not a write that may have happened, whatever it was answered with: where nobody knows, a person has to say. An
        agent with tools knows by itself which of them it has called (`clients/llm.py`).
        """
        code, tries = self.error_code, self.number - self.lost
        self.will_retry = code is not None and self.retryable and should_retry(self.policy, tries, code)
        spec = self.agent.spec if self.agent else None
        if self.may_have_written and not isinstance(spec, LlmAgent):
            self.is_in_doubt = code in IN_DOUBT
            self.will_retry = self.will_retry and code in NOT_DONE

    def row(self, status: StepStatus | None = None) -> StepRow:
        """The attempt as it is stored."""
        run, agent = self.run, self.agent
        ended = StepStatus.COMPLETED if self.error_code is None else StepStatus.FAILED
        return StepRow(
            run.organization_id, run.retention_class, run.id, run.token, self.ready.node.id, self.ready.iteration,
            self.number, self.id, self.step_number, self.ready.node.kind, self.effects,
            agent.agent_id if agent else None, agent.id if agent else None, agent.semver if agent else "",
            (status or ended).value, self.input.inline, self.input.reference, self.stored.inline,
            self.stored.reference, self.error_code, self.error_message, self.will_retry,
            *self.asked, self.price.version if self.price else "", self.input_tokens, self.output_tokens,
            self.cost_usd_micros, self.started_at, self.completed_at, self.played,
        )  # fmt: skip


class Attempts:
    """Makes attempts: prices and bounds them before the call, makes the call, and counts what it used."""

    def __init__(  # noqa: PLR0917
        self,
        agents: AgentRunner,
        objects: Objects,
        rows: Rows,
        definitions: Definitions,
        prices: Prices,
        texts: TextSource | None = None,
    ) -> None:
        self._agents, self._objects, self._rows = agents, objects, rows
        self._definitions, self._prices, self._texts = definitions, prices, texts

    async def prepare(self, attempt: Attempt, agent: AgentVersion) -> None:
        """What the call may use at most, before it is made; fails the attempt where the step must not be tried."""
        content = orjson.dumps(attempt.ready.input)
        attempt.effects = agent.spec.effects.value
        if problems := validate_input(agent.spec.input_schema, attempt.ready.input):
            where = problems[0].path or "its root"
            attempt.fail(AgentErrorCode.INVALID_INPUT, f"The input does not fit input_schema at {where}.")
            return
        if len(content) <= INLINE_BYTES:
            attempt.input = Stored(content, None)
        if agent.models:
            attempt.asked = agent.models[0].provider, agent.models[0].name
        if attempt.effects == Effects.WRITE and attempt.run.plays_writes:
            await self._play(attempt)
            return
        attempt.estimate = Usage(steps=1)
        if agent.models:
            await self._price(attempt, agent, _most_asked(agent, content))

    async def make(self, attempt: Attempt) -> Attempt:
        """Make the call and note how it ended; raises nothing but CancelledError."""
        if attempt.error_code is not None or attempt.agent is None or attempt.played is not None:
            attempt.completed_at = utc_now()
            return attempt
        if attempt.delay:
            await asyncio.sleep(attempt.delay)
        attempt.started_at = utc_now()
        with span("step", service="execution", traceparent=attempt.run.traceparent, node=attempt.ready.node.id):
            try:
                if attempt.input.inline is None:
                    attempt.input = await self.keep(attempt.run, attempt.ready.input)
                async with asyncio.timeout(attempt.seconds + (OWN_END_SECONDS if attempt.agent.models else 0)):
                    keys = await self._definitions.credentials_of(attempt.run.organization_id, attempt.agent.spec)
                    call = _call(attempt, attempt.agent, keys, self._sink(attempt))
                    attempt.called_at = asyncio.get_running_loop().time()
                    result = await self._agents.run(call)
                _count(attempt, result)
                await self._accept(attempt, result)
            except TimeoutError:
                late = f"No answer within {attempt.seconds:g} s."
                attempt.fail(AgentErrorCode.TIMEOUT, late, retryable=not attempt.may_have_written)
            except AgentError as error:
                _count(attempt, error)
                code = f"agent_{error.code}" if error.code in OWN_CODES else error.code
                attempt.fail(code, error.message, retryable=error.retryable)
                attempt.retry_after_seconds = error.retry_after_seconds or 0.0
            except RefusalError as error:
                retryable = isinstance(error, UnavailableError) and not attempt.may_have_written
                attempt.fail(error.code, error.detail, retryable=retryable)
            except CredentialError as error:
                attempt.fail(AgentErrorCode.UNAUTHORIZED, str(error))
            except Exception as error:  # noqa: BLE001  (a step must not take the worker with it)
                log.warning("step broke", run_id=str(attempt.run.id), error=repr(error)[:300])
                broke = "The step failed inside the worker."
                attempt.fail(INTERNAL, broke, retryable=not attempt.may_have_written)
        attempt.count_open()
        attempt.completed_at = utc_now()
        return attempt

    async def _price(self, attempt: Attempt, agent: AgentVersion, tokens: int) -> None:
        """Note what each model costs and estimate by the dearest: it is not known yet which one will answer."""
        spec, costs, most = agent.spec, [0], [0]
        if not isinstance(spec, LlmAgent):
            return
        attempt.max_tokens = spec.most_tokens(tokens, attempt.tokens_left)
        try:
            for model in agent.models:
                price = await self._prices.price_of(
                    attempt.run.organization_id, model.provider, model.name, attempt.started_at
                )
                attempt.prices[model.provider, model.name] = price
                for used in spec.most_used(model, tokens, attempt.max_tokens):
                    costs.append(price.highest_cost_usd_micros(*used))
                    most.append(sum(used))
        except UnknownPriceError as error:
            attempt.fail(error.code, error.detail)
            return
        attempt.estimate = Usage(cost_usd_micros=max(costs), tokens=max(most), steps=1)

    async def keep(self, run: ClaimedRun, value: Json) -> Stored:
        """The value's JSON, in the row or as an object; TooLargeError when neither holds it."""
        content = orjson.dumps(value)
        if len(content) <= INLINE_BYTES:
            return Stored(content, None)
        return Stored(None, await self._objects.put(run.organization_id, run.id, content))

    async def load(self, inline: bytes | None, reference: str | None) -> Json:
        """The value that `keep` stored."""
        content = inline if reference is None else await self._objects.get(reference)
        return orjson.loads(content) if content is not None else None

    async def _play(self, attempt: Attempt) -> None:
        """A fork does no write again: what the original's gave stands for it."""
        attempt.effects = Effects.READ
        row = await self._rows.recorded(attempt.run, attempt.key)
        if row is None:
            attempt.fail("write_not_recorded", "The forked run never did this write; fork it with allow_writes.")
            return
        attempt.played, attempt.output = plain(row["id"]), await self.load(row["output"], row["output_ref"])
        attempt.stored = await self.keep(attempt.run, attempt.output)

    def _sink(self, attempt: Attempt) -> Callable[[str], None] | None:
        """Where what is written goes; nowhere, unless somebody watches: then nobody is asked to answer bit by bit."""
        if self._texts is None:
            return None
        return self._texts.sink(TextOf(attempt.run.id, *attempt.key, attempt.number))

    async def _accept(self, attempt: Attempt, result: AgentResult) -> None:
        attempt.output = result.output
        attempt.stored = await self.keep(attempt.run, result.output)


def _call(
    attempt: Attempt, agent: AgentVersion, credentials: dict[str, str], on_delta: Callable[[str], None] | None
) -> AgentCall:
    return AgentCall(
        organization_id=attempt.run.organization_id,
        run_id=attempt.run.id,
        node=attempt.ready.node.id,
        iteration=attempt.ready.iteration,
        attempt=attempt.number,
        spec=agent.spec,
        input=attempt.ready.input,
        deadline_seconds=attempt.seconds,
        max_output_tokens=agent.max_output_tokens,
        max_tokens=attempt.max_tokens,
        traceparent=attempt.run.traceparent,
        open_requests=attempt.open_requests,
        credentials=credentials,
        on_delta=on_delta,
    )


def _most_asked(agent: AgentVersion, content: bytes) -> int:
    """Tokens of the question at most: the input once as it is and once in each hole of the instructions."""
    instructions = str(agent.config.get("instructions", ""))
    schema = orjson.dumps(agent.config.get("output_schema"))
    asked = len(content) * (1 + instructions.count("${")) + len(instructions.encode()) + len(schema)
    return -(-asked // BYTES_PER_TOKEN)


def _count(attempt: Attempt, used: AgentResult | AgentError) -> None:
    """Count the tokens, and what they cost at the price of the model that used them."""
    if (used.provider, used.model) in attempt.prices:
        attempt.asked = used.provider, used.model
    calls = used.calls or ((used.input_tokens, used.output_tokens),)
    calls = tuple((min(asked, MAX_TOKENS_PER_CALL), min(answered, MAX_TOKENS_PER_CALL)) for asked, answered in calls)
    attempt.input_tokens, attempt.output_tokens = (sum(side) for side in zip(*calls, strict=True))
    if attempt.price is not None:
        attempt.cost_usd_micros = attempt.price.cost_of_calls(calls)
