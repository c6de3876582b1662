"""Small files that only their owner may read, written whole or not at all."""

import os
import secrets
from pathlib import Path


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace the file's content in one step; nobody but the owner can ever read it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    beside.replace(path)


def kept_secret(path: Path, mode: int = 0o600) -> str:
    """Return the random secret kept in the file; made the first time."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24), mode)
    return path.read_text().strip()
