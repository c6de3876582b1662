"""The envelope every fact and command travels in: CloudEvents 1.0 attribute names around one contract class."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, ClassVar, Self
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict

MAX_FACT_BYTES = 256 * 1024
"""A fact above this size is refused by its producer; larger values travel by reference."""

SCHEMA_BASE = "https://remit.dev/schemas"


class Message(BaseModel):
    """What facts and commands share: immutable, and deaf to fields a newer sender added."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_timedelta="iso8601")

    type: ClassVar[str]

    def json_bytes(self) -> bytes:
        """The contract's own JSON: the `data` of its envelope."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=True)


class Fact(Message):
    """Something that happened, published once, immutable. `type` is `<service>.<noun>.<past_participle>.v<N>`."""

    subject_field: ClassVar[str]
    """The field that holds the id of the thing it happened to."""
    security: ClassVar[bool] = False
    """A revocation, suspension or kill: a consumer stops at it rather than park it."""

    @classmethod
    def of(cls, row: Any, **more: Any) -> Self:
        """The fact about a row as it is now: each field is the row's attribute of that name, or its own default.

        What is None in the row counts as not said; its own id is its `id`. `more` goes before what the row says.
        """
        told = {name: value for name in cls.model_fields if (value := getattr(row, name, None)) is not None}
        told.setdefault(cls.subject_field, getattr(row, "id", None))
        return cls.model_validate(told | more)

    @classmethod
    def noun(cls) -> str:
        """The noun in the fact's type: `run` of `execution.run.completed.v1`."""
        return cls.type.split(".")[1]

    def subject_id(self) -> str:
        """The id of the thing it happened to."""
        return str(getattr(self, self.subject_field))


class Command(Message):
    """Work for one service. May be refused. `type` is `<service>.<verb_noun>.v<N>`; it is read from `work.<type>`."""


class Reply(Message):
    """A command's typed result; a refusal is a result too, because a remote exception does not travel."""

    refused: str | None = None
    """The stable code of the refusal; None when the command was done."""
    detail: str = ""


class Actor(BaseModel):
    """Who did it: a user, an API key or the system."""

    model_config = ConfigDict(frozen=True)

    type: str
    id: str


class Envelope(BaseModel):
    """One fact as its reader sees it: the attributes, and `data` still undecoded."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    type: str
    source: str
    subject: str
    time: datetime
    dataschema: str
    organization_id: UUID
    workspace_id: UUID | None = None
    actor: Actor
    traceparent: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    subject_version: int | None = None
    event_key: str
    data: dict[str, Any]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Decode the bytes a producer committed; ValueError when they are no envelope."""
        return cls.model_validate_json(body)


@cache
def _names(kind: str) -> tuple[str, str, str]:
    """Of a fact's type: its noun, where its schema is, and its name without the version."""
    return kind.split(".")[1], f"{SCHEMA_BASE}/{kind}.json", kind.rpartition(".")[0]


def wrap(
    fact: Fact,
    *,
    fact_id: UUID,
    source: str,
    time: datetime,
    organization_id: UUID,
    actor_type: str,
    actor_id: str,
    traceparent: str = "",
    correlation_id: str = "",
    causation_id: str = "",
) -> bytes:
    """The final bytes of a fact: what the outbox, the log, the stream and the audit entry all hold unchanged.

    `source` is the producing service's name. `event_key` names the happening itself, so that two versions of one
    fact, published side by side, are recognised as one. ValueError above `MAX_FACT_BYTES`.
    """
    kind, fields = fact.type, fact.__dict__  # asking a model for a field it has not costs more than all the rest
    noun, dataschema, event_name = _names(kind)
    workspace_id, version = fields.get("workspace_id"), fields.get("version")
    attributes: dict[str, Any] = {
        "id": fact_id,
        "type": kind,
        "source": source,
        "subject": f"{noun}/{fields[fact.subject_field]}",
        "time": time,
        "dataschema": dataschema,
        "organization_id": organization_id,
        "actor": {"type": actor_type, "id": actor_id},
        "event_key": f"{event_name}:{fact_id}",
        "data": orjson.Fragment(fact.json_bytes()),
    }
    if workspace_id is not None:
        attributes["workspace_id"] = workspace_id
    if isinstance(version, int):
        attributes["subject_version"] = version
    for name, value in (
        ("traceparent", traceparent),
        ("correlation_id", correlation_id),
        ("causation_id", causation_id),
    ):
        if value:
            attributes[name] = value
    body = orjson.dumps(attributes, default=str)  # drivers bring ids of their own subclass of UUID
    if len(body) > MAX_FACT_BYTES:
        msg = f"{kind} is {len(body)} bytes, above the limit of {MAX_FACT_BYTES}: pass large values by reference"
        raise ValueError(msg)
    return body
