"""The port through which a step reaches an agent of any kind, and how such a call fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from execution.domain.agents import AgentSpec
from execution.domain.documents import Json

Calls: TypeAlias = tuple[tuple[int, int], ...]


class ModelRequest(NamedTuple):
    """A request to a model, and the most tokens that it may use."""

    provider: str
    model: str
    input_tokens: int
    output_tokens: int


class OpenRequests:
    """Requests to models whose answers have not come, of one attempt: where they never do, nobody tells what they used.

    Whoever ends the attempt, by a time-out or from outside, finds here what it may still have to pay.
    """

    def __init__(self) -> None:
        self._open: list[ModelRequest] = []

    def __iter__(self) -> Iterator[ModelRequest]:
        return iter(self._open)

    def forget(self) -> None:
        """None is open: what has ended the attempt was said by whoever was asked, or before anybody was."""
        self._open.clear()

    @contextmanager
    def request(self, request: ModelRequest) -> Iterator[None]:
        """Around one request: it stays open where it breaks off, and not where it was answered or never arrived."""
        self._open.append(request)
        try:
            yield
        except AgentError as error:
            if not error.is_unheard:
                self._open.remove(request)
            raise
        self._open.remove(request)


class AgentErrorCode(StrEnum):
    """Why a call of an agent failed; stable, part of the product's API."""

    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    INVALID_OUTPUT = "invalid_output"
    INVALID_OUTPUT_SCHEMA = "invalid_output_schema"
    INVALID_INPUT = "invalid_input"
    EXPRESSION_FAILED = "expression_failed"
    REFUSED = "refused"
    REJECTED = "rejected"
    UNAUTHORIZED = "unauthorized"
    TOO_LARGE = "too_large"
    URL_REFUSED = "url_refused"
    UNKNOWN_FUNCTION = "unknown_function"
    FUNCTION_FAILED = "function_failed"
    TOOL_FAILED = "tool_failed"
    UNKNOWN_TOOL = "unknown_tool"
    MAX_TOKENS = "max_tokens"
    MAX_TOOL_CALLS = "max_tool_calls"
    NOT_SUPPORTED_YET = "not_supported_yet"


INTERNAL = "internal_error"
_RETRYABLE = frozenset(
    {
        AgentErrorCode.TIMEOUT,
        AgentErrorCode.RATE_LIMITED,
        AgentErrorCode.UNAVAILABLE,
        AgentErrorCode.INVALID_OUTPUT,
        AgentErrorCode.FUNCTION_FAILED,
        AgentErrorCode.TOOL_FAILED,
    }
)


IN_DOUBT = frozenset({AgentErrorCode.TIMEOUT, AgentErrorCode.UNAVAILABLE, AgentErrorCode.FUNCTION_FAILED, INTERNAL})
"""After these nobody knows whether what was asked for has happened."""
NOT_DONE = frozenset({AgentErrorCode.RATE_LIMITED})
"""After these, and only these, it has surely not happened. Whatever else an agent answers, it was there, and to ask it
again may do again what it has done."""


class AgentError(Exception):
    """A call of an agent failed; the message is ours and holds no secret, prompt or answer.

    The code is an `AgentErrorCode`, or one that the agent chose itself.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool | None = None,
        input_tokens: int = 0,
        output_tokens: int = 0,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = code in _RETRYABLE if retryable is None else retryable
        self.input_tokens = input_tokens
        """Tokens that were used all the same, and must be paid."""
        self.output_tokens = output_tokens
        self.calls: Calls = ()
        """The same by call of the model, where there may have been more than one: each pays the rate of its length."""
        self.is_unheard = False
        """A model was asked and its answer never came, or not whole: what it used nobody tells."""
        self.provider, self.model = "", ""
        """Which of the models that the definition names used them; empty when no model was asked."""
        self.retry_after_seconds = retry_after_seconds
        """What the agent asked for, if it did; never trusted above the retry policy's cap."""


@dataclass(frozen=True, slots=True)
class AgentCall:
    """One attempt at one step."""

    organization_id: UUID
    run_id: UUID
    node: str
    iteration: int
    attempt: int
    spec: AgentSpec
    """The pinned version, as it is stored."""
    input: Json
    deadline_seconds: float
    max_output_tokens: int
    max_tokens: int = 0
    """The most that all requests to models may use together; 0 where there is only one."""
    traceparent: str = ""
    open_requests: OpenRequests = field(default_factory=OpenRequests, repr=False, compare=False)
    """Where requests to models are noted while they are open."""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The keys that the definition names, by their names."""
    on_delta: Callable[[str], None] | None = field(default=None, repr=False, compare=False)
    """Called with each piece of text as it is written, with an empty one where all before it is void; must return at
    once."""

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this step, so that an agent can tell a repetition."""
        return f"{self.run_id}:{self.node}:{self.iteration}"


@dataclass(frozen=True, slots=True)
class AgentResult:
    """What an agent answered, and what it used."""

    output: Json
    input_tokens: int = 0
    output_tokens: int = 0
    provider: str = ""
    model: str = ""
    """The model that answered, as the definition names it, which is the one that is paid; empty when none was asked."""
    answered_by: str = ""
    """What the provider says answered, usually a dated name."""
    calls: Calls = ()
    """Tokens of input and output by call of the model, where there may have been more than one."""
    usage_estimated: bool = False
    """The provider counted no tokens, so they were estimated from the length of the texts."""


class AgentRunner(Protocol):
    """Calls agents of one kind."""

    async def run(self, call: AgentCall) -> AgentResult:
        """The agent's answer, or AgentError."""
        ...


class AgentKinds:
    """Calls agents of every kind, each through its own runner."""

    def __init__(self, runners: Mapping[str, AgentRunner]) -> None:
        self._runners = runners

    async def run(self, call: AgentCall) -> AgentResult:
        """The answer of the runner for the agent's kind, or AgentError."""
        runner = self._runners.get(call.spec.kind)
        if runner is None:
            raise AgentError(AgentErrorCode.NOT_SUPPORTED_YET, "Agents of this kind cannot be run yet.")
        return await runner.run(call)
