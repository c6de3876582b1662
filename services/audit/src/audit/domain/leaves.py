r"""The leaf of an entry: what its hash is over, for good; and which partition holds it.

A leaf is the producer, its numbers and the stored bytes, framed so that no two differ and read alike:
`remit-leaf/1 <producer> <epoch> <sequence> <organization_sequence>\n<body>`. Its hash is RFC 6962's:
SHA-256 of a zero byte and the leaf.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

RETENTION_CLASSES = (30, 90, 365, 2555)
"""Days an entry may be kept."""
MONTHS_BEFORE, MONTHS_AHEAD = 1, 2
"""The months that have partitions, beside the present one."""


def leaf_hash(producer: str, epoch: int, sequence: int, organization_sequence: int, body: bytes) -> bytes:
    """The 32 bytes of an entry's leaf hash."""
    numbers = f"\0remit-leaf/1 {producer} {epoch} {sequence} {organization_sequence}\n"
    return hashlib.sha256(numbers.encode() + body).digest()


class Partitions:
    """Where entries of one retention class go: by the UTC month in their UUIDv7."""

    def __init__(self, retention_class: int, now: datetime) -> None:
        month = now.year * 12 + now.month - 1
        self._month = month
        self._ranges = [
            (
                _first_id(number),
                _first_id(number + 1),
                f"entry_{retention_class}_{number // 12:04d}{number % 12 + 1:02d}",
            )
            for number in range(month - MONTHS_BEFORE, month + MONTHS_AHEAD + 1)
        ]

    def are_of(self, now: datetime) -> bool:
        """Whether these are still the partitions of this time."""
        return self._month == now.year * 12 + now.month - 1

    def of(self, id_text: bytes) -> str:
        """The partition of an id; ValueError for one whose time has none: its producer's clock was wrong."""
        for first, end, name in self._ranges:
            if first <= id_text < end:
                return name
        raise ValueError(f"the time in the id {id_text.decode()} is out of range")


def _first_id(month: int) -> bytes:
    start = datetime.fromisoformat(f"{month // 12:04d}-{month % 12 + 1:02d}-01T00:00:00+00:00")
    digits = f"{int(start.timestamp() * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}".encode()
