"""The form of an API key: `rmt_<id, 12 base62>_<secret, 32 base62><CRC-32 of all before, 6 base62>`.

The id names the key and may be shown; the 190-bit secret exists nowhere but with its holder, its SHA-256 is what is
stored. The checksum lets a mistyped or made-up key be refused without a look-up, and secret scanners recognise one.
"""

from __future__ import annotations

import hashlib
import secrets
import string
import zlib
from dataclasses import dataclass

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 12, 32, 6
PREFIX = "rmt_"
KEY_LENGTH = len(PREFIX) + ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """A well-formed key: its public id and the hash to compare."""

    key_prefix: str
    secret_sha256: str


def make_key() -> tuple[str, ParsedKey]:
    """A fresh key, to be shown once, and what to store of it."""
    body = f"{PREFIX}{_random(ID_LENGTH)}_{_random(SECRET_LENGTH)}"
    key = body + _checksum(body)
    parsed = parse_key(key)
    if parsed is None:
        msg = "a key that was just made is well-formed"
        raise AssertionError(msg)
    return key, parsed


def parse_key(key: str) -> ParsedKey | None:
    """The parts of a key; None for anything malformed or mistyped."""
    if len(key) != KEY_LENGTH or not key.startswith(PREFIX) or key[len(PREFIX) + ID_LENGTH] != "_":
        return None
    body, checksum = key[:-CHECKSUM_LENGTH], key[-CHECKSUM_LENGTH:]
    if not key.isascii() or _checksum(body) != checksum:
        return None
    key_prefix, _, secret = body[len(PREFIX) :].partition("_")
    if not (key_prefix.isalnum() and secret.isalnum()):
        return None
    return ParsedKey(key_prefix, hash_secret(secret))


def hash_secret(secret: str) -> str:
    """Hex SHA-256. No slow hash and no salt: there is nothing to guess in 190 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    value, digits = zlib.crc32(text.encode()), []
    for _ in range(CHECKSUM_LENGTH):
        value, digit = divmod(value, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
