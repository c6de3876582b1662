"""Secrets at rest: each is encrypted with a data key of its own, and a key-encryption key with an id wraps that."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
_KEY_BYTES = 32


class UnsealError(Exception):
    """A secret cannot be opened: its key is not here, or its bytes or its place were changed."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret as it is stored."""

    ciphertext: bytes
    wrapped_key: bytes
    kek_id: str


class Keyring:
    """The key-encryption keys of a service: seals with the current one, opens with any."""

    def __init__(self, current: str, keys: Mapping[str, bytes]) -> None:
        self._current, self._keys = current, {key_id: AESGCM(key) for key_id, key in keys.items()}
        if current not in self._keys:
            msg = f"the keyring has no key {current!r}"
            raise ValueError(msg)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read `{current, keys: {id: base64 of 32 bytes}}`; PermissionError when others may read the file."""
        if path.stat().st_mode & 0o077:
            msg = f"{path} may be read by others: chmod 600 {path}"
            raise PermissionError(msg)
        stored = orjson.loads(path.read_bytes())
        return cls(stored["current"], {key_id: base64.b64decode(key) for key_id, key in stored["keys"].items()})

    def seal(self, secret: bytes, place: str) -> Sealed:
        """Encrypt a secret for its place (`organization/table/id`): moved anywhere else, it no longer opens."""
        key = AESGCM.generate_key(bit_length=8 * _KEY_BYTES)
        bound = place.encode()
        return Sealed(
            _encrypt(AESGCM(key), secret, bound), _encrypt(self._keys[self._current], key, bound), self._current
        )

    def open(self, sealed: Sealed, place: str) -> bytes:
        """The secret; UnsealError when its key is not in this keyring or anything about it was changed."""
        kek = self._keys.get(sealed.kek_id)
        if kek is None:
            raise UnsealError(f"the key {sealed.kek_id!r} is not in the keyring")
        try:
            key = _decrypt(kek, sealed.wrapped_key, place.encode())
            return _decrypt(AESGCM(key), sealed.ciphertext, place.encode())
        except (InvalidTag, ValueError) as error:
            raise UnsealError("the secret was changed, or it belongs elsewhere") from error


def write_keyring(path: Path) -> Path:
    """Make a keyring with one fresh key (mode 0600) unless the file exists; returns its path."""
    if not path.exists():
        key_id = secrets.token_hex(4)
        key = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_bytes(orjson.dumps({"current": key_id, "keys": {key_id: key}}))
    return path


def _encrypt(key: AESGCM, plain: bytes, bound: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + key.encrypt(nonce, plain, bound)


def _decrypt(key: AESGCM, stored: bytes, bound: bytes) -> bytes:
    return key.decrypt(stored[:_NONCE_BYTES], stored[_NONCE_BYTES:], bound)
