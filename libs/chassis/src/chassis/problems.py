"""Refusals as problem+json (RFC 9457): one shape for every error a caller sees, with a stable `code`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

from chassis.errors import InvalidError, RefusalError
from chassis.telemetry import current_traceparent, trace_id

MEDIA_TYPE = "application/problem+json"


class ProblemOut(BaseModel):
    """Why a request was refused."""

    type: str = Field(description="A page about this kind of problem.")
    title: str
    status: int
    code: str = Field(description="Stable and machine-readable.")
    detail: str = Field(description="What went wrong and what to do about it.")
    trace_id: str = ""
    errors: list[dict[str, Any]] = Field(default=[], description="Each single problem of the request, with its place.")


def problem(error: RefusalError, traceparent: str = "") -> Response:
    """The answer for a refusal."""
    body: dict[str, Any] = {
        "type": f"https://remit.dev/problems/{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "trace_id": trace_id(current_traceparent(traceparent)),
    }
    if error.errors:
        body["errors"] = error.errors
    headers = {} if error.retry_after_seconds is None else {"Retry-After": str(error.retry_after_seconds)}
    return Response(orjson.dumps(body), error.status, headers, MEDIA_TYPE)


def invalid_request(error: RequestValidationError) -> InvalidError:
    """FastAPI's findings as our refusal: places and messages, never the values, which may be secret."""
    errors = [
        {"loc": [str(part) for part in found["loc"]], "message": found["msg"], "code": found["type"]}
        for found in error.errors()
    ]
    return InvalidError("The request does not fit its schema; `errors` names each problem.", errors=errors)
