"""Ports of this machine that nobody else can reach."""

import socket
from pathlib import Path

from remit_local.private_files import write_private

_LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def kept_port(path: Path, wanted: int | None = None) -> int:
    """Return the wanted port, else the one kept in the file while it is free, else a new one; and keep it."""
    if wanted is None and path.exists() and is_free(kept := int(path.read_text())):
        return kept
    port = wanted or free_port()
    write_private(path, str(port))
    return port


def is_free(port: int) -> bool:
    """Tell whether the loopback port can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
        return True


def can_connect(port: int) -> bool:
    """Tell whether something accepts connections on the loopback port."""
    try:
        socket.create_connection((_LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def first_answer(port: int, request: bytes, size: int) -> bytes:
    """Send bytes to the loopback port and return the first bytes of the answer; empty when there is none."""
    try:
        with socket.create_connection((_LOOPBACK, port), timeout=2) as connection:
            connection.sendall(request)
            return connection.recv(size)
    except OSError:
        return b""
