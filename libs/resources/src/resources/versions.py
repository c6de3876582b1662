"""Versions of rows: ETag out, If-Match in, and nobody overwrites what he has not seen."""

from __future__ import annotations

from chassis.errors import InvalidError, StaleVersionError, VersionRequiredError


def etag(version: int) -> str:
    """The ETag of a row's version."""
    return f'"{version}"'


def read_version(if_match: str | None) -> int | None:
    """The version in an If-Match header, None without one; InvalidError for a header that names no version."""
    if if_match is None:
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not text.isdecimal() or len(text) > 9:
        raise InvalidError('If-Match takes the ETag of what you change, such as "3".', code="bad_if_match")
    return int(text)


def require_version(current: int, expected: int | None) -> None:
    """Refuse to change another version than the caller has seen.

    VersionRequiredError (428) when it does not say which, StaleVersionError (412) when a newer one exists.
    """
    if expected is None:
        raise VersionRequiredError('Say which version you change: If-Match: "<version>", as its ETag said.')
    if expected != current:
        raise StaleVersionError(f"This is at version {current} by now, not {expected}: read it again.")
