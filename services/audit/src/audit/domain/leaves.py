"""The leaf of an entry: what its hash is over, for good.

A leaf is the producer, its numbers and the stored bytes, framed so that no two differ and read alike:
`remit-leaf/1 <producer> <epoch> <sequence> <organization_sequence>\\n<body>`. Its hash is RFC 6962's:
SHA-256 of a zero byte and the leaf.
"""

from __future__ import annotations

import hashlib


def leaf_hash(producer: str, epoch: int, sequence: int, organization_sequence: int, body: bytes) -> bytes:
    """The 32 bytes of an entry's leaf hash."""
    numbers = f"\0remit-leaf/1 {producer} {epoch} {sequence} {organization_sequence}\n"
    return hashlib.sha256(numbers.encode() + body).digest()
