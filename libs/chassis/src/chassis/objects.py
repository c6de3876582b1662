"""Where payloads above 64 KB live: a directory, each object sealed and named by its organization, run and digest."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import orjson

from chassis.errors import TooLargeError, UnavailableError
from chassis.sealing import Keyring, Sealed

INLINE_BYTES = 64 * 1024
"""What a row holds itself."""
OBJECT_BYTES = 4 * 1024 * 1024
"""What is kept at all."""
_LENGTH_BYTES = 2


class Objects(Protocol):
    """A store of payloads; the same bytes of the same run are one object."""

    async def put(self, organization_id: UUID, run_id: UUID, content: bytes) -> str:
        """Keep the bytes; returns their key, `organization/run/sha256`."""

    async def get(self, key: str) -> bytes:
        """The bytes of a key; UnavailableError when they are not there."""

    async def runs(self) -> list[tuple[UUID, UUID]]:
        """Organization and id of every run that has objects here."""

    async def forget(self, organization_id: UUID, run_id: UUID) -> None:
        """Remove all objects of a run; where there are none, nothing happens."""


class NoObjects:
    """Where no store is configured: payloads above 64 KB are refused."""

    async def put(self, organization_id: UUID, run_id: UUID, content: bytes) -> str:
        """Refuse: TooLargeError."""
        del organization_id, run_id
        raise TooLargeError(
            f"Payloads above {INLINE_BYTES} bytes need an object store (the setting OBJECT_DIRECTORY); "
            f"this one has {len(content)}."
        )

    async def get(self, key: str) -> bytes:
        """Refuse: UnavailableError."""
        raise UnavailableError(
            f"The object {key} is not here: this process has no object store.", code="object_missing"
        )

    async def runs(self) -> list[tuple[UUID, UUID]]:
        """None."""
        return []

    async def forget(self, organization_id: UUID, run_id: UUID) -> None:
        """There is nothing to remove."""


class DirectoryObjects:
    """Objects as files, written beside their name and then renamed, so that none is ever half there."""

    def __init__(self, directory: Path, keyring: Keyring) -> None:
        self._directory, self._keyring = directory, keyring

    async def put(self, organization_id: UUID, run_id: UUID, content: bytes) -> str:
        """Keep the bytes; TooLargeError above 4 MB, UnavailableError where the disk takes no more."""
        if len(content) > OBJECT_BYTES:
            raise TooLargeError(f"A payload has at most {OBJECT_BYTES} bytes, not {len(content)}.")
        key = f"{organization_id}/{run_id}/{hashlib.sha256(content).hexdigest()}"
        await asyncio.to_thread(self._write, key, content)
        return key

    async def get(self, key: str) -> bytes:
        """The bytes of a key."""
        return await asyncio.to_thread(self._read, key)

    async def runs(self) -> list[tuple[UUID, UUID]]:
        """Organization and id of every run that has a directory."""
        return await asyncio.to_thread(self._runs)

    async def forget(self, organization_id: UUID, run_id: UUID) -> None:
        """Remove a run's directory."""
        place = self._directory / str(organization_id) / str(run_id)
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    def _runs(self) -> list[tuple[UUID, UUID]]:
        found = []
        for place in self._directory.glob("*/*"):
            with contextlib.suppress(ValueError):  # whatever else lies there is not ours
                found.append((UUID(place.parent.name), UUID(place.name)))
        return found

    def _write(self, key: str, content: bytes) -> None:
        path = self._directory / key
        if path.exists():
            return
        sealed = self._keyring.seal(content, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_whole(path, sealed)
        except OSError as error:
            raise UnavailableError(
                f"The object store cannot keep this now: {error.strerror}.",
                code="object_store_unavailable",
                retry_after_seconds=5,
            ) from error

    def _read(self, key: str) -> bytes:
        try:
            stored = (self._directory / key).read_bytes()
        except FileNotFoundError as error:
            raise UnavailableError(f"The object {key} is gone.", code="object_missing") from error
        kek_id, rest = _part(stored)
        wrapped_key, ciphertext = _part(rest)
        return self._keyring.open(Sealed(ciphertext, wrapped_key, kek_id.decode()), key)


def _write_whole(path: Path, sealed: Sealed) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            for part in (sealed.kek_id.encode(), sealed.wrapped_key):
                file.write(len(part).to_bytes(_LENGTH_BYTES, "big") + part)
            file.write(sealed.ciphertext)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)  # half a file on a full disk would keep it full
        raise


def _part(stored: bytes) -> tuple[bytes, bytes]:
    end = _LENGTH_BYTES + int.from_bytes(stored[:_LENGTH_BYTES], "big")
    return stored[_LENGTH_BYTES:end], stored[end:]


def open_objects(directory: Path | None, keyring: Keyring | None) -> Objects:
    """The store that the settings describe; without a directory or a keyring, one that refuses."""
    return NoObjects() if directory is None or keyring is None else DirectoryObjects(directory, keyring)


async def keep_payload(
    objects: Objects, organization_id: UUID, run_id: UUID, value: Any
) -> tuple[bytes | None, str | None]:
    """The value's JSON for its row, or the key of the object that holds it; TooLargeError above 4 MB."""
    content = orjson.dumps(value)
    if len(content) <= INLINE_BYTES:
        return content, None
    if len(content) > OBJECT_BYTES:
        raise TooLargeError(f"What a run is given has at most {OBJECT_BYTES} bytes of JSON, not {len(content)}.")
    return None, await objects.put(organization_id, run_id, content)


async def read_payload(inline: bytes | None, reference: str | None, objects: Objects) -> Any:
    """The JSON value of an input or output, from its row or from its object; None when there is none."""
    content = await objects.get(reference) if reference is not None else inline
    return None if content is None else orjson.loads(content)
