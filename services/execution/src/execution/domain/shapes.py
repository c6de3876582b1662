"""Parts that agent and orchestration definitions share, read strictly: an unknown key is an error, not a wish."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from execution.domain.quantities import parse_duration, parse_usd
from execution.domain.retries import MAX_ATTEMPTS, Backoff, RetryPolicy
from execution.domain.runs import Limits
from execution.domain.versions import is_version

MAX_DESCRIPTION_CHARACTERS = 2_000
MAX_TOKENS = 100_000_000


def _version(text: str) -> str:
    if not is_version(text):
        raise ValueError('a version is a semantic version in quotes: "1.2.0"')
    return text


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,9}(ms|s|m|h|d)$", "examples": ["500ms", "60s", "15m"]}),
]
UsdMicros = Annotated[
    int,
    BeforeValidator(parse_usd),
    WithJsonSchema({"type": ["string", "number"], "pattern": r"^[0-9]{1,9}(\.[0-9]{1,12})?$", "examples": ["0.50"]}),
]
Version = Annotated[str, AfterValidator(_version)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\s\x00-\x1f]([^\x00-\x1f]*[^\s\x00-\x1f])?$")]
Alias = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]
NodeId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
UserId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
ErrorCode = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class Shape(BaseModel):
    """A mapping of a definition: exact types, no unknown keys, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Metadata(Shape):
    """Who a definition is, beside its configuration; no part of its digest."""

    name: Name
    workspace: Name | None = None
    team: Name | None = None
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARACTERS)] = ""
    risk_level: Literal["low", "medium", "high", "critical"] | None = None
    version: Version | None = None


class Retry(Shape):
    """How failed attempts are repeated; `max` counts the first attempt too."""

    max: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)] = 3
    backoff: Literal["exponential", "constant"] = "exponential"
    first: Annotated[Duration, Field(alias="base")] = 1.0
    cap: Duration = 60.0
    jitter: Literal["full", "none"] = "full"
    not_on: Annotated[list[ErrorCode], Field(max_length=50)] = []

    def policy(self) -> RetryPolicy:
        """The same as the engine's policy."""
        return RetryPolicy(
            max_attempts=self.max,
            backoff=Backoff(self.backoff),
            first_delay_seconds=self.first,
            max_delay_seconds=self.cap,
            full_jitter=self.jitter == "full",
            not_on=frozenset(self.not_on),
        )


class AgentLimits(Shape):
    """The most one step of an agent may use."""

    max_cost_usd: UsdMicros | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_tool_calls: Annotated[int, Field(ge=0, le=1_000)] | None = None
    timeout: Duration | None = None

    def limits(self) -> Limits:
        """The same as the engine's limits."""
        return Limits(max_cost_usd_micros=self.max_cost_usd, max_tokens=self.max_tokens, timeout_seconds=self.timeout)


def policy_of(retry: Retry | None) -> RetryPolicy | None:
    """The engine's policy of an optional part."""
    return retry.policy() if retry is not None else None


def is_given(config: Any, path: tuple[str, ...]) -> bool:
    """Whether the configuration says something at this path: not absent, null, empty or false."""
    for key in path:
        if not isinstance(config, dict):
            return False
        config = config.get(key)
    return bool(config)
