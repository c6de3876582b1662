"""What an agent is made of, by kind: a language model with instructions, or somebody's HTTP endpoint."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from execution.domain.nodes import Effects
from execution.domain.prices import EMBEDDED_MODEL
from execution.domain.shapes import AgentLimits, Duration, Name, Retry, Shape

MAX_INSTRUCTIONS_CHARACTERS = 32_000
MAX_OUTPUT_TOKENS = 1_000_000
MAX_HEADERS = 20
MAX_HEADER_CHARACTERS = 2_000
DEFAULT_TIMEOUT_SECONDS = 60.0

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_OUR_HEADERS = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "host", "idempotency-key", "te",
        "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade",
        "webhook-id", "webhook-signature", "webhook-timestamp",
    }
)  # fmt: skip
_NOT_A_URL = "a URL starts with https:// or http:// and names a host"
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 443) > 0
    except ValueError:
        raise ValueError(_NOT_A_URL) from None
    if not usable or not _HEADER_VALUE.fullmatch(text) or " " in text:
        raise ValueError(_NOT_A_URL)
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL holds no user name or password: definitions are no place for secrets")
    if parts.fragment:
        raise ValueError("a URL of an endpoint has no fragment")
    return text


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or len(value) > MAX_HEADER_CHARACTERS or not _HEADER_VALUE.fullmatch(value):
            raise ValueError("a header is a token and up to 2000 printable ASCII characters")
        if name.lower() in _OUR_HEADERS:
            raise ValueError(f"the header {name} is set by the product")
        if name.lower() in _SECRET_HEADERS:
            raise ValueError(f"the header {name} would hold a secret: definitions are no place for secrets")
    return headers


Url = Annotated[str, Field(max_length=2_000), AfterValidator(_url)]
Headers = Annotated[dict[str, str], Field(max_length=MAX_HEADERS), AfterValidator(_headers)]


class ModelChoice(Shape):
    """Which language model answers, and how; `credential` names the stored key, `base_url` the compatible endpoint."""

    provider: Literal["embedded", "openai", "openai-compatible"]
    name: Annotated[str, Field(min_length=1, max_length=200)] = EMBEDDED_MODEL
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)] = 1_024
    base_url: Url | None = None
    credential: Name | None = None

    @model_validator(mode="after")
    def _fits_provider(self) -> Self:
        if self.provider != "embedded" and "name" not in self.model_fields_set:
            raise ValueError(f"a model of the provider {self.provider} needs a name")
        if (self.provider == "openai-compatible") != (self.base_url is not None):
            raise ValueError("base_url belongs to the provider openai-compatible, which needs it")
        if self.provider == "embedded" and self.name != EMBEDDED_MODEL:
            raise ValueError(f"the embedded model is {EMBEDDED_MODEL}; leave the name out")
        if self.provider == "embedded" and self.credential is not None:
            raise ValueError("the embedded model needs no credential")
        return self


def may_receive(model: ModelChoice, provider: str, base_url: str | None) -> bool:
    """Whether a key stored for this provider and address may be sent where the model answers.

    Nowhere else: whoever may write agents could have the organization's keys sent to themselves.
    """
    return provider == model.provider and (base_url or "").rstrip("/") == (model.base_url or "").rstrip("/")


class HttpEndpoint(Shape):
    """Where an `http` agent lives; it answers a POST within the timeout."""

    url: Url
    method: Literal["POST"] = "POST"
    headers: Headers = {}
    timeout: Duration = 30.0


class PythonFunction(Shape):
    """Which registered function does the step."""

    function: Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]


class AgentShape(Shape):
    """What agents of every kind may say."""

    api_version: Annotated[Literal["agent/v1"], Field(alias="apiVersion")]
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    limits: AgentLimits = AgentLimits()
    retry: Retry | None = None


class LlmAgent(AgentShape):
    """A language model with instructions, whose holes (`${input.topic}`) are filled from declared inputs only.

    Without `output_schema` its output is `{"text": ...}`; with one, the value the schema describes.
    """

    kind: Literal["llm"]
    model: ModelChoice
    instructions: Annotated[str, Field(max_length=MAX_INSTRUCTIONS_CHARACTERS)] = ""

    @property
    def effects(self) -> Effects:
        """A model changes nothing outside: asking it twice costs twice and no more."""
        return Effects.READ

    @property
    def timeout_seconds(self) -> float:
        """How long one attempt may take."""
        return self.limits.timeout or DEFAULT_TIMEOUT_SECONDS


class HttpAgent(AgentShape):
    """Somebody's service that does the step: `http: {url, method: POST, headers: {...}, timeout: 30s}`.

    It is sent `{run_id, step, iteration, attempt, input}` and answers `{output, usage?: {input_tokens,
    output_tokens}}`. Each call carries `Idempotency-Key: run:node:iteration`, the same for every attempt. `effects`
    says what a repeated call does: `idempotent` (the default: the endpoint honours the key), `read`, or `write` (it
    does not: after a crash in the middle of a call the run waits for a person's decision).
    """

    kind: Literal["http"]
    http: HttpEndpoint
    effects_name: Annotated[Literal["read", "idempotent", "write"], Field(alias="effects")] = "idempotent"

    @property
    def effects(self) -> Effects:
        """What a repeated call does to the world."""
        return Effects(self.effects_name)

    @property
    def timeout_seconds(self) -> float:
        """How long one attempt may take."""
        return min(self.http.timeout, self.limits.timeout or self.http.timeout)


class PythonAgent(AgentShape):
    """A function of the worker's own image that does the step: `python: {function: greet}`.

    Only what the operator has installed can be named: no code is ever taken from a definition. `effects` as for `http`.
    """

    kind: Literal["python"]
    python: PythonFunction
    effects_name: Annotated[Literal["read", "idempotent", "write"], Field(alias="effects")] = "idempotent"

    @property
    def effects(self) -> Effects:
        """What a repeated call does to the world."""
        return Effects(self.effects_name)

    @property
    def timeout_seconds(self) -> float:
        """How long one attempt may take."""
        return self.limits.timeout or DEFAULT_TIMEOUT_SECONDS


AgentSpec: TypeAlias = LlmAgent | HttpAgent | PythonAgent
AGENT_KINDS: dict[str, type[AgentSpec]] = {"llm": LlmAgent, "http": HttpAgent, "python": PythonAgent}
LATER_AGENT_KINDS = ("mcp", "a2a")
LATER_PROVIDERS = ("anthropic",)
LATER_AGENT_PARTS: tuple[tuple[str, ...], ...] = (("tools",), ("evals",), ("model", "fallback"))
