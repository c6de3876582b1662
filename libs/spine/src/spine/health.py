"""Probes: is the process alive, can it serve its door, what does it count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Check = Callable[[], Awaitable[dict[str, Any]]]
"""Returns `{"ready": bool, ...}`; a lost broker or a lag is told as `degraded`, not as unready."""


class Probes:
    """Answers /healthz, /readyz and /metrics; everything else goes on to the service."""

    def __init__(self, app: ASGIApp, check: Check) -> None:
        self._app, self._check = app, check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        answer = self._answers.get(scope["path"]) if scope["type"] == "http" else None
        if answer is None:
            await self._app(scope, receive, send)
        else:
            await (await answer(self))(scope, receive, send)

    async def _healthz(self) -> Response:
        return Response(b'{"alive":true}', media_type="application/json")

    async def _readyz(self) -> Response:
        try:
            async with asyncio.timeout(2):
                state = await self._check()
        except Exception as error:  # noqa: BLE001  (whatever it is, the door cannot be served)
            state = {"ready": False, "error": type(error).__name__}
        return Response(orjson.dumps(state), 200 if state["ready"] else 503, media_type="application/json")

    async def _metrics(self) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    _answers = {"/healthz": _healthz, "/readyz": _readyz, "/metrics": _metrics}
