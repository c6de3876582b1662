"""What went wrong on the way to an agent, in the words of the port."""

from __future__ import annotations

from collections.abc import Mapping

from chassis.outbound import OutboundFailedError, OutboundRefusedError
from execution.clients.agents import AgentError, AgentErrorCode

_BY_STATUS = {
    401: AgentErrorCode.UNAUTHORIZED,
    403: AgentErrorCode.UNAUTHORIZED,
    408: AgentErrorCode.TIMEOUT,
    409: AgentErrorCode.UNAVAILABLE,  # the same Idempotency-Key is still being worked on
    413: AgentErrorCode.TOO_LARGE,
    425: AgentErrorCode.UNAVAILABLE,
    429: AgentErrorCode.RATE_LIMITED,
    504: AgentErrorCode.TIMEOUT,
}
_BY_FAILURE = {
    "timeout": AgentErrorCode.TIMEOUT,
    "too_large": AgentErrorCode.TOO_LARGE,
    "encoded": AgentErrorCode.INVALID_OUTPUT,
    "invalid_request": AgentErrorCode.INVALID_INPUT,
}


def status_error(status: int, headers: Mapping[str, str]) -> AgentError:
    """The error for an answer that is not a success."""
    code = _BY_STATUS.get(status)
    if code is None:
        code = AgentErrorCode.UNAVAILABLE if status >= 500 else AgentErrorCode.REJECTED
    return AgentError(
        code,
        f"The agent's endpoint answered with HTTP status {status}.",
        retry_after_seconds=retry_after_seconds(headers),
    )


def outbound_error(error: OutboundFailedError | OutboundRefusedError) -> AgentError:
    """The error for a call that brought no answer."""
    if isinstance(error, OutboundRefusedError):
        return AgentError(AgentErrorCode.URL_REFUSED, error.detail)
    code = _BY_FAILURE.get(error.code, AgentErrorCode.UNAVAILABLE)
    return AgentError(code, f"The agent's endpoint could not be used: {error.code}.", retryable=error.retryable)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """How long the endpoint asks us to stay away; its form as a date is left alone."""
    text = headers.get("Retry-After", headers.get("retry-after", ""))
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None
