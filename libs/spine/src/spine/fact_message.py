"""How a fact lies on its stream: AMQP 1.0, one section of application properties at fixed places and one data section.

Any AMQP 0-9-1 client reads the properties as headers; ours slices them, because skipping must cost nearly nothing.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import orjson

from chassis.auth import Signer, Trust


class Row(Protocol):
    """A row of fact_log, its columns by name."""

    def __getitem__(self, column: str, /) -> Any: ...


def _key(name: str, value_type: int) -> bytes:
    return b"\xa1" + bytes([len(name)]) + name.encode() + bytes([value_type])


_LONG, _TEXT, _MAP, _DATA = 0x81, 0xA1, b"\x00\x53\x74\xd1", b"\x00\x53\x75\xb0"
_KEYS = (_key("sequence", _LONG), _key("organization_sequence", _LONG), _key("epoch", _LONG), _key("id", _TEXT),
         _key("organization_id", _TEXT), _key("type", _TEXT), _key("traceparent", _TEXT))  # fmt: skip
_HEAD = struct.Struct(">4sII{}sq{}sq{}sq{}sB36s{}sB36s{}sB".format(*(len(key) for key in _KEYS[:-1])))
_UUID_LENGTH, _MAP_SIZE_AT, _MAP_START = 36, 4, 8
_SEQUENCE_AT = struct.calcsize(f">4sII{len(_KEYS[0])}s")
_ORGANIZATION_SEQUENCE_AT = _SEQUENCE_AT + 8 + len(_KEYS[1])
_EPOCH_AT = _ORGANIZATION_SEQUENCE_AT + 8 + len(_KEYS[2])
_ID_AT = _EPOCH_AT + 8 + len(_KEYS[3]) + 1
_ORGANIZATION_AT = _ID_AT + _UUID_LENGTH + len(_KEYS[4]) + 1
_TYPE_AT = _HEAD.size
_NUMBERS = struct.Struct(f">q{len(_KEYS[1])}xq{len(_KEYS[2])}xq")


def encode(row: Row) -> bytes:
    """The final bytes of one row of fact_log, as they lie on the stream and in the answer to a repair."""
    kind, trace, body = row["type"].encode(), row["traceparent"].encode(), row["body"]
    tail = b"".join((kind, _KEYS[6], bytes([len(trace)]), trace))
    head = _HEAD.pack(
        _MAP, _HEAD.size - _MAP_START + len(tail), 14,
        _KEYS[0], row["sequence"], _KEYS[1], row["organization_sequence"], _KEYS[2], row["epoch"],
        _KEYS[3], _UUID_LENGTH, str(row["id"]).encode(), _KEYS[4], _UUID_LENGTH, str(row["organization_id"]).encode(),
        _KEYS[5], len(kind),
    )  # fmt: skip
    return b"".join((head, tail, _DATA, len(body).to_bytes(4, "big"), body))


class Head(NamedTuple):
    """What a reader must know to skip a fact."""

    sequence: int
    organization_sequence: int
    epoch: int
    type: bytes


def head_of(message: bytes) -> Head:
    """The numbers and the type, by their places; ValueError when the message is no fact."""
    if message[:4] != _MAP or message[12:_SEQUENCE_AT] != _KEYS[0] or len(message) <= _TYPE_AT:
        raise ValueError("not a fact")
    sequence, organization_sequence, epoch = _NUMBERS.unpack_from(message, _SEQUENCE_AT)
    return Head(sequence, organization_sequence, epoch, bytes(message[_TYPE_AT : _TYPE_AT + message[_TYPE_AT - 1]]))


@dataclass(slots=True)
class RawFact:
    """One fact as it lay on its stream; nothing but the numbers is decoded until somebody asks."""

    producer: str
    sequence: int
    organization_sequence: int
    epoch: int
    message: bytes

    @property
    def id(self) -> UUID:
        """The fact's id."""
        return UUID(self.message[_ID_AT : _ID_AT + _UUID_LENGTH].decode())

    @property
    def id_text(self) -> bytes:
        """The fact's id as its 36 characters: for whoever must not spend time on objects."""
        return self.message[_ID_AT : _ID_AT + _UUID_LENGTH]

    @property
    def organization_text(self) -> bytes:
        """The organization's id as its 36 characters."""
        return self.message[_ORGANIZATION_AT : _ORGANIZATION_AT + _UUID_LENGTH]

    @property
    def organization_id(self) -> UUID:
        """Whose fact it is."""
        return UUID(self.message[_ORGANIZATION_AT : _ORGANIZATION_AT + _UUID_LENGTH].decode())

    @property
    def type(self) -> str:
        """`<service>.<noun>.<past_participle>.v<N>`."""
        return self.message[_TYPE_AT : _TYPE_AT + self.message[_TYPE_AT - 1]].decode()

    @property
    def traceparent(self) -> str:
        """The W3C header of the trace it belongs to; empty when there is none."""
        at = _TYPE_AT + self.message[_TYPE_AT - 1] + len(_KEYS[6])
        return self.message[at + 1 : at + 1 + self.message[at]].decode()

    @property
    def body(self) -> bytes:
        """The envelope's bytes, as they were committed."""
        map_size = int.from_bytes(self.message[_MAP_SIZE_AT:_MAP_START], "big")
        return self.message[_MAP_START + map_size + len(_DATA) + 4 :]


@dataclass(frozen=True, slots=True)
class Attestation:
    """A producer's signed word on how far its numbers go; it lies on the stream and has no number itself."""

    producer: str
    epoch: int
    sequence: int
    attested_at: str
    kid: str = ""
    signature: bytes = b""
    statement: bytes = b""
    """The bytes that were signed."""

    def proven_by(self, trust: Trust | None) -> bool:
        """Did the producer sign this? Without a trust file everybody is believed."""
        if trust is None:
            return True
        return trust.verify(self.kid, self.statement, self.signature, service=self.producer, use="attest")


_ATTESTATION = _key("attestation", _TEXT)


def encode_attestation(producer: str, epoch: int, sequence: int, attested_at: str, signer: Signer | None) -> bytes:
    """The bytes of an attestation's message, signed where there is a key."""
    statement = orjson.dumps(
        {"producer": producer, "epoch": epoch, "sequence": sequence, "attested_at": attested_at},
        option=orjson.OPT_SORT_KEYS,
    )
    signature = base64.b64encode(signer.sign(statement)) if signer else b""
    entries = b"".join(
        part for name, text in (("attestation", (signer.kid if signer else "").encode()), ("signature", signature))
        for part in (_key(name, _TEXT), bytes([len(text)]), text)
    )  # fmt: skip
    size = (4 + len(entries)).to_bytes(4, "big")
    return b"".join((_MAP, size, (4).to_bytes(4, "big"), entries, _DATA, len(statement).to_bytes(4, "big"), statement))


def attestation_of(message: bytes) -> Attestation | None:
    """The attestation in this message; None when it is something else."""
    if message[:4] != _MAP or message[12 : 12 + len(_ATTESTATION)] != _ATTESTATION:
        return None
    at = 12 + len(_ATTESTATION)
    kid = bytes(message[at + 1 : at + 1 + message[at]])
    at += 1 + len(kid) + len(_key("signature", _TEXT))
    signature = base64.b64decode(message[at + 1 : at + 1 + message[at]])
    statement = bytes(message[at + 1 + message[at] + len(_DATA) + 4 :])
    fields = orjson.loads(statement)
    return Attestation(**fields, kid=kid.decode(), signature=signature, statement=statement)
