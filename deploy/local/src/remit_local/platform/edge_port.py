"""Which port the edge listens on: the wanted one, the one it had before, or the next free one."""

from pathlib import Path

from remit_local.loopback import is_free
from remit_local.private_files import write_private
from remit_local.process import ServerError

DEFAULT = 8080
_TRIES = 100


def settle_edge_port(folder: Path, wanted: int | None) -> tuple[int, str]:
    """Return the port and, where it is not the expected one, a sentence that says so; ServerError if `wanted` is taken.

    Without a wanted port the edge keeps its address over restarts; the first time it is 8080 or the next free one.
    """
    kept = folder / "edge.port"
    if wanted is not None:
        if not is_free(wanted):
            raise ServerError(f"port {wanted} is taken by another program; choose another one with --port")
        port = wanted
    else:
        expected = int(kept.read_text()) if kept.exists() else DEFAULT
        port = next((each for each in range(expected, expected + _TRIES) if is_free(each)), 0)
        if not port:
            raise ServerError(f"no free port from {expected} on; choose one with --port")
        if port != expected:
            _keep(folder, port)
            return port, f"port {expected} is taken by another program; the edge listens on {port} instead"
    _keep(folder, port)
    return port, ""


def _keep(folder: Path, port: int) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(folder / "edge.port", str(port))
