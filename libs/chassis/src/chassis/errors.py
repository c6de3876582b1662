"""Refusals: what a use case says when it will not do what was asked. Doors translate each once."""

from __future__ import annotations

from typing import Any, ClassVar


class RefusalError(Exception):
    """A use case said no. `code` is stable and machine-readable; `detail` tells a person what to do."""

    status: ClassVar[int] = 400
    code: str = "refused"

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        errors: list[dict[str, Any]] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(detail or type(self).__name__)
        self.detail = detail
        self.code = code or type(self).code
        self.errors = errors or []
        self.retry_after_seconds = retry_after_seconds


class InvalidError(RefusalError):
    """The request cannot be understood; `errors` names each problem."""

    status: ClassVar = 422
    code = "invalid"


class UnauthenticatedError(RefusalError):
    """Nobody we know is asking."""

    status: ClassVar = 401
    code = "unauthenticated"


class ForbiddenError(RefusalError):
    """The caller is known and may not do this."""

    status: ClassVar = 403
    code = "forbidden"


class NotFoundError(RefusalError):
    """There is no such thing, or nothing the caller may know of."""

    status: ClassVar = 404
    code = "not_found"


class ConflictError(RefusalError):
    """The thing's present state does not allow it."""

    status: ClassVar = 409
    code = "conflict"


class StaleVersionError(RefusalError):
    """The caller changes a version that is no longer the newest one."""

    status: ClassVar = 412
    code = "stale_version"


class VersionRequiredError(RefusalError):
    """An update must say which version it changes (`If-Match`)."""

    status: ClassVar = 428
    code = "version_required"


class TooLargeError(RefusalError):
    """Above a stated limit of size."""

    status: ClassVar = 413
    code = "too_large"


class LimitExceededError(RefusalError):
    """Above a stated limit of number or rate."""

    status: ClassVar = 429
    code = "limit_exceeded"


class UnavailableError(RefusalError):
    """Cannot be done right now; asking again later can help."""

    status: ClassVar = 503
    code = "unavailable"


def not_yet_known(noun: str) -> ConflictError:
    """The refusal for a reference so young that its fact may still be on its way."""
    return ConflictError(
        f"This {noun} was made a moment ago and is not known here yet. Try again in a second.",
        code="not_yet_known",
        retry_after_seconds=1,
    )
