"""An entry as the bytes that COPY takes, in PostgreSQL's binary format: no object is made that is thrown away at once.

`bench/entries.py` measures storing by it; what it saves over handing tuples to the driver has not been measured.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

COLUMNS = (
    "retention_class", "id", "organization_id", "occurred_at", "epoch", "sequence", "organization_sequence",
    "leaf_index", "leaf_hash", "workspace_id", "run_id", "producer", "event_type", "resource_type", "action",
    "actor_type", "result", "resource_id", "actor_id", "owner_id", "error_message", "trace_id", "body",
)  # fmt: skip
"""The columns in the order of the bytes: those of fixed length first."""

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

_FIXED = struct.Struct(">hihi16si16siqiiiqiqiqi32s")
_UUID_LENGTH = b"\0\0\0\x10"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def fixed(  # noqa: PLR0917  (one argument per column, forty thousand times a second)
    retention_class: int,
    entry_id: bytes,
    organization_id: bytes,
    occurred_at: datetime,
    epoch: int,
    sequence: int,
    organization_sequence: int,
    leaf_index: int,
    leaf_hash: bytes,
) -> bytes:
    """The columns that have one length, after the number of columns."""
    return _FIXED.pack(
        len(COLUMNS), 2, retention_class, 16, entry_id, 16, organization_id,
        8, (occurred_at - _EPOCH) // _MICROSECOND, 4, epoch, 8, sequence, 8, organization_sequence,
        8, leaf_index, 32, leaf_hash,
    )  # fmt: skip


def uuid_field(text: str | None) -> bytes:
    """A UUID column; ValueError when the text is none."""
    return _UUID_LENGTH + uuid_bytes(text) if text else NULL


def uuid_bytes(text: str) -> bytes:
    """The 16 bytes of a UUID's text; ValueError when it is none."""
    value = bytes.fromhex(text.replace("-", ""))
    if len(value) != 16:
        raise ValueError(f"not a UUID: {text[:40]!r}")
    return value


def text_field(text: str) -> bytes:
    """A text column."""
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded


@lru_cache(maxsize=4096)
def word_fields(words: Sequence[str]) -> bytes:
    """Text columns that hold few different words."""
    return b"".join(map(text_field, words))


def bytes_field(value: bytes) -> bytes:
    """A bytea column."""
    return len(value).to_bytes(4, "big") + value
