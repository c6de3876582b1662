"""Optimistic locking: a version travels as ETag, and an update says with If-Match which version it changes."""

from typing import Annotated

from fastapi import Header

from chassis.errors import InvalidError, StaleVersionError, VersionRequiredError


def expected_version(if_match: Annotated[str | None, Header(description='The ETag of the version to change: `"3"`.')] = None) -> int:
    """The version in If-Match; VersionRequiredError without one."""
    if if_match is None:
        raise VersionRequiredError("Say which version you change: If-Match with the ETag that reading it gave.")
    text = if_match.strip().removeprefix("W/").strip('"')
    if not text.isdigit():
        raise InvalidError('If-Match holds the ETag that reading it gave, such as "3".', code="invalid_if_match")
    return int(text)


def require_version(current: int, expected: int) -> None:
    """StaleVersionError when somebody else changed it meanwhile."""
    if current != expected:
        raise StaleVersionError(f"It has changed meanwhile: its version is {current}, not {expected}. Read it again.")


def etag(version: int) -> str:
    """A version as an ETag."""
    return f'"{version}"'
