"""Refused requests leave a fact of their own, because the refused unit of work leaves nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from fastapi import Request

from chassis.caller import Caller
from chassis.errors import RefusalError
from chassis.rules import DeniedError, record_denial
from chassis.telemetry import logger
from chassis.uow import Units
from contracts.chassis import REFUSED

PER_MINUTE = 10
_CALLERS = 4096
log = logger(part="refusals")


@dataclass
class _Window:
    started: float
    noted: int = 0
    held_back: int = 0
    last: tuple[Caller, dict[str, object]] | None = field(default=None)


class RefusalLog:
    """Records refusals of authenticated callers: at most ten a minute for each, then one summary."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._windows: dict[str, _Window] = {}

    async def note(self, caller: Caller, request: Request, refusal: RefusalError) -> None:
        """Record that this caller was refused. Reads that found nothing are no news; everything else is."""
        if request.method == "GET" and refusal.status != 403:
            return
        fields: dict[str, object] = {
            "operation": request.scope.get("remit.operation", ""),
            "method": request.method,
            "path": request.url.path[:500],
            "status": refusal.status,
            "code": refusal.code,
            "resource_id": str(next(iter(request.path_params.values()), "")),
        }
        window = self._window(caller.id)
        if window.noted >= PER_MINUTE:
            window.held_back += 1
            window.last = (caller, fields)
            return
        window.noted += 1
        await self._record(caller, fields, 1, refusal)

    async def summarize(self) -> None:
        """Record what was held back in windows that are over; called by a clock."""
        now = time.monotonic()
        for caller_id, window in list(self._windows.items()):
            if now - window.started < 60:
                continue
            del self._windows[caller_id]
            if window.last is not None:
                await self._record(*window.last, window.held_back, None)

    def _window(self, caller_id: str) -> _Window:
        now = time.monotonic()
        window = self._windows.get(caller_id)
        if window is None or (now - window.started > 60 and window.last is None):
            if len(self._windows) >= _CALLERS:
                self._windows.pop(next(iter(self._windows)))
            window = self._windows[caller_id] = _Window(now)
        return window

    async def _record(
        self, caller: Caller, fields: dict[str, object], count: int, refusal: RefusalError | None
    ) -> None:
        service = self._units.settings.service
        try:
            async with self._units.begin(caller) as uow:
                uow.emit(REFUSED[service].model_validate({**fields, "count": count}))
                if isinstance(refusal, DeniedError):
                    record_denial(uow, refusal)
        except RefusalError as error:
            log.warning("a refusal could not be recorded", service=service, code=error.code)
