"""Names of revisions: what a configuration is (its digest) and which number it gets (semver)."""

from __future__ import annotations

import hashlib

import rfc8785
import semver

from execution.domain.documents import Json

FIRST_VERSION = "1.0.0"
MAX_VERSION_CHARACTERS = 64


def digest_of(config: Json) -> str:
    """`sha256:` and the hash of the configuration's RFC 8785 JSON: the order of its keys does not matter."""
    return "sha256:" + hashlib.sha256(rfc8785.dumps(config)).hexdigest()


def is_version(text: str) -> bool:
    """Whether the text is a semantic version of a sensible length."""
    return len(text) <= MAX_VERSION_CHARACTERS and semver.Version.is_valid(text)


def is_higher(one: str, other: str) -> bool:
    """Whether one version comes after the other."""
    return semver.Version.parse(one) > semver.Version.parse(other)


def next_version(current: str | None, wanted: str | None = None) -> str:
    """The number of the next revision: the wanted one when it is higher than the current, else the next patch."""
    if current is None:
        return wanted or FIRST_VERSION
    if wanted is not None and is_higher(wanted, current):
        return wanted
    present = semver.Version.parse(current)
    return str(present.finalize_version() if present.prerelease else present.bump_patch())
