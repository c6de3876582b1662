"""The HTTP door: routes with a permission, one unit of work per request, problems, limits, spans."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from opentelemetry.trace import SpanKind
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.auth import TokenVerifier, traced
from chassis.caller import Caller
from chassis.errors import (
    InvalidError,
    NotFoundError,
    RefusalError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    not_yet_known,
)
from chassis.ids import id_age_seconds
from chassis.permits import Permit
from chassis.problems import ProblemOut, invalid_request, problem
from chassis.refusals import RefusalLog
from chassis.rules import RuleBook, admit
from chassis.telemetry import REQUESTS, current_traceparent, logger, span
from chassis.uow import UnitOfWork, Units

YOUNG_SECONDS = 10.0
F = TypeVar("F", bound=Callable[..., Any])
log = logger(part="http")


@dataclass
class Door:
    """What the routes of one service need to let a caller in."""

    verifier: TokenVerifier
    rules: RuleBook
    units: Units
    refusals: RefusalLog


class _Route(APIRoute):
    """A route that knows its permission and asks for it before it reads the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()
        extra = self.openapi_extra or {}
        permission: str = extra["x-permission"]
        named = "{" in self.path

        async def handle(request: Request) -> Response:
            door: Door = request.app.state.door
            request.scope["remit.operation"] = self.name
            caller = _authenticate(door, request)
            request.scope["remit.caller"] = caller
            if permission != ANYONE:
                rules = await door.rules.of(caller.organization_id)
                request.scope["remit.permit"] = admit(caller, permission, rules, named=named)
            else:
                request.scope["remit.permit"] = Permit.system()
            return await inner(request)

        return handle


ANYONE = "anyone"
"""The permission of the few routes that every authenticated caller may use, such as asking who it is."""


class Router(APIRouter):
    """A noun's routes. Each names the permission it needs; the function's name is the use case's name everywhere."""

    def __init__(self, noun: str, *, prefix: str) -> None:
        super().__init__(prefix=prefix, tags=[noun], route_class=_Route)

    def route_for(
        self, method: str, path: str, permission: str, status: int, **options: Any
    ) -> Callable[[F], F]:  # fmt: skip
        """Register a use case's route; `get`, `post`, `patch`, `put` and `delete` are this with a method."""

        def register(endpoint: F) -> F:
            self.add_api_route(
                path,
                endpoint,
                methods=[method],
                status_code=status,
                operation_id=endpoint.__name__,
                name=endpoint.__name__,
                responses={"default": {"model": ProblemOut, "description": "Refused"}},
                **(options | {"openapi_extra": {**options.get("openapi_extra", {}), "x-permission": permission}}),
            )
            return endpoint

        return register

    def get(  # type: ignore[override]
        self, path: str, *, permission: str, status: int = 200, **options: Any
    ) -> Callable[[F], F]:
        """A route that reads."""
        return self.route_for("GET", path, permission, status, **options)

    def post(  # type: ignore[override]
        self, path: str, *, permission: str, status: int = 200, **options: Any
    ) -> Callable[[F], F]:
        """A route that makes something or does something to it."""
        return self.route_for("POST", path, permission, status, **options)

    def patch(  # type: ignore[override]
        self, path: str, *, permission: str, status: int = 200, **options: Any
    ) -> Callable[[F], F]:
        """A route that changes some fields."""
        return self.route_for("PATCH", path, permission, status, **options)

    def put(  # type: ignore[override]
        self, path: str, *, permission: str, status: int = 200, **options: Any
    ) -> Callable[[F], F]:
        """A route that makes something be as given."""
        return self.route_for("PUT", path, permission, status, **options)

    def delete(  # type: ignore[override]
        self, path: str, *, permission: str, status: int = 204, **options: Any
    ) -> Callable[[F], F]:
        """A route that ends something."""
        return self.route_for("DELETE", path, permission, status, **options)


def _authenticate(door: Door, request: Request) -> Caller:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError("Say who you are: Authorization: Bearer <key>.")
    traceparent = current_traceparent(request.headers.get("traceparent", ""))
    return traced(door.verifier.verify(token), traceparent, request.headers.get("x-correlation-id", ""))


def caller_of(request: Request) -> Caller:
    """Who is asking."""
    caller: Caller = request.scope["remit.caller"]
    return caller


async def _unit_of_work(request: Request) -> AsyncIterator[UnitOfWork]:
    door: Door = request.app.state.door
    permit: Permit = request.scope["remit.permit"]
    async with door.units.begin(caller_of(request), permit) as uow:
        yield uow
        permit.require_judged()


Uow = Annotated[UnitOfWork, Depends(_unit_of_work, scope="function")]
"""The unit of work of this request. `scope="function"`: it commits before the response is sent, so a failed commit is
a failed request; FastAPI's default would commit after the client has its answer."""


async def wait_for(known: Callable[[], Awaitable[bool]], reference: UUID, noun: str) -> None:
    """Wait up to a second for a reference whose fact may be on its way, holding no connection.

    NotFoundError for one that is older than ten seconds and unknown; ConflictError `not_yet_known` for a younger one
    that did not arrive.
    """
    if await known():
        return
    if id_age_seconds(reference) > YOUNG_SECONDS:
        raise NotFoundError(f"There is no {noun} with the id {reference}.")
    end = time.monotonic() + 1
    while time.monotonic() < end:
        await asyncio.sleep(0.05)
        if await known():
            return
    raise not_yet_known(noun)


def allow_seconds(request: Request, seconds: float) -> None:
    """Give this one request another time limit, counted from now: for answers that are waited for or streamed."""
    deadline: asyncio.Timeout | None = request.scope.get("remit.deadline")
    if deadline is not None:
        deadline.reschedule(asyncio.get_running_loop().time() + seconds)


def make_app(title: str, routers: list[Router], door: Door, version: str) -> FastAPI:
    """The service's HTTP application: its routes, and one translation of every error."""
    app = FastAPI(title=title, version=version, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.state.door = door
    for router in routers:
        app.include_router(router)

    async def refused(request: Request, error: Exception) -> Response:
        refusal = error if isinstance(error, RefusalError) else _as_refusal(error)
        caller: Caller | None = request.scope.get("remit.caller")
        if caller is not None:
            # Of the app, not of this function's argument: the door is hung in when the service starts.
            await request.app.state.door.refusals.note(caller, request, refusal)
        return problem(refusal, request.headers.get("traceparent", ""))

    async def crashed(request: Request, _: Exception) -> Response:
        return problem(_broken(), request.headers.get("traceparent", ""))

    for kind in (RefusalError, RequestValidationError, HTTPException, TimeoutError):
        app.add_exception_handler(kind, refused)
    app.add_exception_handler(Exception, crashed)  # Starlette answers by it, then raises on to the guard
    return app


def _as_refusal(error: Exception) -> RefusalError:
    if isinstance(error, RequestValidationError):
        return invalid_request(error)
    if isinstance(error, TimeoutError):
        return UnavailableError("The request took too long and was stopped.", code="timeout", retry_after_seconds=5)
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return NotFoundError("There is no such route.")
        refusal = InvalidError(str(error.detail), code="invalid_request")
        refusal.status = error.status_code  # type: ignore[misc]  # an instance of an HTTP error FastAPI itself found
        return refusal
    raise error


def _broken() -> RefusalError:
    refusal = RefusalError("Something broke on our side. The trace id finds it in the logs.", code="internal")
    refusal.status = 500  # type: ignore[misc]  # the one crash that becomes an answer
    return refusal


class Guard:
    """What stands before every service's app: size and time limits, one span, one metric, one answer for a crash."""

    def __init__(self, app: ASGIApp, service: str, *, limit_bytes: int, timeout_seconds: float) -> None:
        self._app, self._service, self._limit, self._timeout = app, service, limit_bytes, timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        traceparent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        started, status, answered = time.perf_counter(), 500, False

        async def watched(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
            await send(message)

        with span("request", service=self._service, traceparent=traceparent, kind=SpanKind.SERVER) as current:
            try:
                async with asyncio.timeout(self._timeout) as deadline:
                    scope["remit.deadline"] = deadline
                    await self._app(scope, _limited(receive, scope, self._limit), watched)
            except Exception as error:  # noqa: BLE001  (the last door: nothing may leave without an answer)
                refusal = self._refusal_of(error, scope)
                if not answered:
                    await problem(refusal, traceparent)(scope, receive, watched)
            operation = scope.get("remit.operation", "unmatched")
            current.set_attribute("http.response.status_code", status)
            current.update_name(operation)
        REQUESTS.labels(self._service, operation, str(status)).observe(time.perf_counter() - started)

    def _refusal_of(self, error: Exception, scope: Scope) -> RefusalError:
        if isinstance(error, RefusalError):
            return error
        if isinstance(error, TimeoutError):
            return _as_refusal(error)
        log.error("request crashed", operation=scope.get("remit.operation", scope["path"]), exc_info=error)
        return _broken()


def _limited(receive: Receive, scope: Scope, limit: int) -> Receive:
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    limit = scope.get("remit.limit_bytes", limit)
    too_large = TooLargeError(f"The request is above the limit of {limit} bytes.")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise too_large
        return message

    return counted
