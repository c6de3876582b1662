"""What a definition must not hold: secrets in its text, and addresses that are not protected on their way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from execution.domain.documents import Json, Path, dotted

PASSED, FAILED = "passed", "failed"

_SECRETS = {
    "provider_key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "cloud_key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "remit_key": re.compile(r"\brmt_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}\b"),
    "repository_token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}"),
    "private_key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"),
}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Finding(NamedTuple):
    """One thing a scan found; the text itself is never repeated."""

    rule: str
    severity: str
    """high findings fail the scan, low ones are told."""
    path: str


def scan_config(config: Mapping[str, Json]) -> list[Finding]:
    """Everything in a configuration that should not be there."""
    return [finding for path, text in _texts(config, ()) for finding in _scan_text(text, path)]


def status_of(findings: list[Finding]) -> str:
    """passed, or failed when a finding is high."""
    return FAILED if any(finding.severity == "high" for finding in findings) else PASSED


def results_of(findings: list[Finding]) -> dict[str, Any]:
    """The findings as they are stored with a version."""
    return {"findings": [finding._asdict() for finding in findings]}


def _texts(value: Json, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))


def _scan_text(text: str, path: Path) -> Iterator[Finding]:
    for rule, pattern in _SECRETS.items():
        if pattern.search(text):
            yield Finding(rule, "high", dotted(path))
    if text.startswith("http://") and urlsplit(text).hostname not in _LOOPBACK:
        yield Finding("unprotected_address", "low", dotted(path))
