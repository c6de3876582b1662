"""Which language model answers, where it does, and whose key it may be sent."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from execution.domain.endpoints import Url
from execution.domain.prices import EMBEDDED_MODEL
from execution.domain.shapes import Name, Shape

MAX_OUTPUT_TOKENS = 1_000_000
MAX_FALLBACKS = 4
ADDRESSED = ("openai-compatible", "mcp", "http")
"""Providers that are whoever answers at an address."""


class KeyUse(NamedTuple):
    """A stored key that a definition names, and whom it would be sent to."""

    name: str
    provider: str
    base_url: str | None


class OneModel(Shape):
    """A language model and how it answers; `credential` names the stored key, `base_url` where it answers.

    A provider `anthropic` without `base_url` is Anthropic itself.
    """

    provider: Literal["embedded", "openai", "openai-compatible", "anthropic"]
    name: Annotated[str, Field(min_length=1, max_length=200)] = EMBEDDED_MODEL
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)] = 1_024
    base_url: Url | None = None
    credential: Name | None = None

    @model_validator(mode="after")
    def _fits_provider(self) -> Self:
        if self.provider != "embedded" and "name" not in self.model_fields_set:
            raise ValueError(f"a model of the provider {self.provider} needs a name")
        if fault := address_fault(self.provider, self.base_url):
            raise ValueError(fault)
        if self.provider == "embedded" and self.name != EMBEDDED_MODEL:
            raise ValueError(f"the embedded model is {EMBEDDED_MODEL}; leave the name out")
        if self.provider == "embedded" and self.credential is not None:
            raise ValueError("the embedded model needs no credential")
        return self


class ModelChoice(OneModel):
    """Which language model answers; those of `fallback` are asked in turn when it cannot be had at the moment."""

    fallback: Annotated[list[OneModel], Field(max_length=MAX_FALLBACKS)] = []

    @property
    def in_turn(self) -> tuple[OneModel, ...]:
        """All of them, as they are asked; what a further one does not say of its answer is as for the first."""
        first = {"temperature": self.temperature, "max_output_tokens": self.max_output_tokens}
        return self, *(further.model_copy(update=_unsaid(further, first)) for further in self.fallback)

    @property
    def keys(self) -> tuple[KeyUse, ...]:
        """The stored keys they name."""
        return tuple(KeyUse(each.credential, each.provider, each.base_url) for each in self.in_turn if each.credential)


def _unsaid(model: OneModel, values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name not in model.model_fields_set}


def address_fault(provider: str, base_url: str | None) -> str:
    """What is wrong with an address for this provider; empty when nothing is."""
    if provider in ADDRESSED:
        return "" if base_url is not None else f"the provider {provider} needs a base_url"
    if base_url is None or provider == "anthropic":
        return ""
    return f"the provider {provider} has no base_url"


def may_receive(use: KeyUse, provider: str, base_url: str | None) -> bool:
    """Whether a key stored for this provider and address may be sent where the definition wants it.

    Nowhere else: whoever may write agents could have the organization's keys sent to themselves.
    """
    return provider == use.provider and (base_url or "").rstrip("/") == (use.base_url or "").rstrip("/")
