"""Serving an ASGI app on a port, inside a process that has other things to do as well."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: whoever runs the process decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    def stop(self) -> None:
        """Finish what is under way and end `serve`."""
        self.should_exit = True


def make_server(app: ASGIApp, *, graceful_seconds: int = 5) -> Server:
    """A server for `serve(sockets=[bind(...)])`; at most 1,000 requests at once, the next get 503."""
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=1000,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=graceful_seconds,
    )
    return Server(config)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. OSError says when the port is taken."""
    listener = socket.create_server((host, port), backlog=1024)
    listener.setblocking(False)
    return listener
