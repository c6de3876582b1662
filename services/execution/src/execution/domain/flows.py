"""How runs of a definition are let in: how many at the same time, how many in a time, each per key of their input."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, NamedTuple
from uuid import UUID

import orjson
from pydantic import Field

from chassis.errors import InvalidError
from execution.domain.documents import Json
from execution.domain.expressions import ExpressionError, compile_expression
from execution.domain.references import Checks, Found
from execution.domain.shapes import Shape
from execution.domain.steps import Rule

MAX_PLACES = 10_000
MAX_STARTS = 10_000
MAX_SECONDS = 86_400
MAX_BURST = 1_000
SHOWN_CHARACTERS = 200
MICROS = 1_000_000


class Concurrency(Shape):
    """At most `limit` runs at the same time for each value of `key`, an expression over `input`; without it for all."""

    limit: Annotated[int, Field(ge=1, le=MAX_PLACES)]
    key: Rule | None = None


class Rate(Shape):
    """At most `limit` starts in any `seconds` for each value of `key`, evenly spaced.

    With `burst` so many may start at once after a rest, and then any `seconds` see at most `limit + burst - 1`.
    """

    limit: Annotated[int, Field(ge=1, le=MAX_STARTS)]
    seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS)]
    burst: Annotated[int, Field(ge=1, le=MAX_BURST)] = 1
    key: Rule | None = None

    @property
    def pace(self) -> Pace:
        """The same in numbers."""
        return Pace(-(-self.seconds * MICROS // self.limit), self.burst)


class Flow(Shape):
    """How runs are admitted: a higher priority goes first, and only so many at the same time and in a time."""

    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    concurrency: Concurrency | None = None
    rate: Rate | None = None


class Pace(NamedTuple):
    """How far apart starts are, and how many may come at once (GCRA); all moments are microseconds."""

    spacing: int
    burst: int = 1

    def opens_at(self, arrival: int, now: int) -> int:
        """The first moment at which the next start is allowed, given the theoretical arrival kept of those before.

        An arrival kept under a slower pace does not bind longer than this one would.
        """
        return min(arrival, now + self.burst * self.spacing) - (self.burst - 1) * self.spacing

    def after_start(self, arrival: int, now: int) -> int:
        """The theoretical arrival to keep once one has started now."""
        return max(now, min(arrival, now + self.burst * self.spacing)) + self.spacing


class Groups(NamedTuple):
    """Among which runs one is counted; None where its definition does not limit that."""

    flow: UUID | None = None
    pace: UUID | None = None


def flow_problems(flow: Flow, checks: Checks) -> Iterator[Found]:
    """What is wrong with the keys of a flow."""
    for name, part in (("concurrency", flow.concurrency), ("rate", flow.rate)):
        if part is not None and part.key is not None:
            yield from checks.rule(part.key, ("flow", name, "key"), ())


def groups_of(flow: Flow, definition_id: UUID, value: Json) -> Groups:
    """The groups of a run with this input; InvalidError `no_flow_key` where a key has no value for it."""
    if flow.concurrency is None and flow.rate is None:
        return Groups()
    return Groups(
        flow=_group("concurrency", definition_id, flow.concurrency, value),
        pace=_group("rate", definition_id, flow.rate, value),
    )


def key_of(part: Concurrency | Rate, value: Json) -> Json:
    """The key of a run with this input; None where there is one group for all."""
    if part.key is None:
        return None
    try:
        return compile_expression(part.key, ("input",)).value({"input": value})
    except ExpressionError:
        raise InvalidError(f"The input has no value for the key {part.key!r} of flow.", code="no_flow_key") from None


def shown_key(key: Json) -> str:
    """A key for people: texts as they are, all else as JSON, no more than 200 characters."""
    return (key if isinstance(key, str) else orjson.dumps(key).decode())[:SHOWN_CHARACTERS]


def _group(kind: str, definition_id: UUID, part: Concurrency | Rate | None, value: Json) -> UUID | None:
    if part is None:
        return None
    told = orjson.dumps([kind, str(definition_id), key_of(part, value)], option=orjson.OPT_SORT_KEYS)
    return UUID(bytes=hashlib.sha256(told).digest()[:16])
