"""What a version of an agent should not say, or should say and does not: secrets, hosts, missing limits, writes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from execution.domain.agents import AgentSpec, LlmAgent
from execution.domain.documents import Json, Path, dotted
from execution.domain.hosts import host_of, is_listed, is_loopback
from execution.domain.leaks import POSSIBLE_SECRET, leaks_in
from execution.domain.nodes import Effects

PASSED, FAILED = "passed", "failed"
SEVERITIES = ("low", "medium", "high", "critical")
FAILING = ("high", "critical")
"""From here on a version does not run."""
MAX_FINDINGS = 200
HIDDEN = "(hidden)"
"""Stands in a path for a key that itself seems to be a secret."""
_ADDRESSES = ("url", "base_url")
_DESCRIPTIONS = ("input_schema", "output_schema", "evals")
"""What is said here is sent nowhere: an `url` in it is no address that the agent calls."""


class Finding(NamedTuple):
    """One thing a scan found; the text itself is never repeated."""

    code: str
    severity: str
    path: str
    message: str


def scan_agent(config: Mapping[str, Json], spec: AgentSpec, known_hosts: Collection[str]) -> list[Finding]:
    """All there is to say about an agent's configuration, the gravest first; `known_hosts` is the list of hosts."""
    found = [*_secrets(config), *_hosts(config, known_hosts), *_limits(spec), *_writes(spec)]
    return sorted(found, key=lambda finding: (-SEVERITIES.index(finding.severity), finding.path, finding.code))


def status_of(findings: list[Finding]) -> str:
    """passed, or failed from the severity high on."""
    return FAILED if any(finding.severity in FAILING for finding in findings) else PASSED


def results_of(findings: list[Finding]) -> dict[str, Any]:
    """The findings as they are stored with a version; of very many the gravest."""
    kept = [finding._asdict() for finding in findings[:MAX_FINDINGS]]
    return {"passed": status_of(findings) == PASSED, "findings": kept, "left_out": len(findings) - len(kept)}


def _secrets(config: Mapping[str, Json]) -> Iterator[Finding]:
    for path, text, name in _texts(config, (), ""):
        for kind in leaks_in(text, name):
            if kind == POSSIBLE_SECRET:
                message = "This looks like a secret beside a word for one: store it as a credential and name that."
                yield Finding(kind, "high", dotted(path), message)
            else:
                noun = kind.replace("_", " ")
                message = f"This has the form of a {noun}: revoke it, store a new one as a credential and name that."
                yield Finding(kind, "critical", dotted(path), message)


def _texts(value: Json, path: Path, name: str) -> Iterator[tuple[Path, str, str]]:
    """Every text with its place and what it is called; keys are texts too."""
    if isinstance(value, str):
        yield path, value, name
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            at = (*path, HIDDEN if any(leaks_in(key)) else key)
            yield at, key, ""
            yield from _texts(inner, at, key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index), name)


def _hosts(config: Mapping[str, Json], known: Collection[str]) -> Iterator[Finding]:
    called = {key: value for key, value in config.items() if key not in _DESCRIPTIONS}
    for path, text, name in _texts(called, (), ""):
        if name not in _ADDRESSES:
            continue
        host = host_of(text)
        if urlsplit(text).scheme != "https" and not is_loopback(host):
            message = "What is sent there can be read on its way: use https."
            yield Finding("unprotected_address", "medium", dotted(path), message)
        if known and not is_listed(host, known):
            message = "The organization's list of allowed hosts does not name this host."
            yield Finding("unknown_host", "high", dotted(path), message)
        elif not known and not is_loopback(host):
            message = "The organization has no list of allowed hosts that could name this host."
            yield Finding("unknown_host", "low", dotted(path), message)


def _limits(spec: AgentSpec) -> Iterator[Finding]:
    limits = spec.limits
    missing = {"timeout": ("no_time_limit", "low", "a run of it may take any time")} if limits.timeout is None else {}
    if isinstance(spec, LlmAgent):
        if limits.max_cost_usd is None:
            missing["max_cost_usd"] = "no_cost_limit", "medium", "a run of it may cost anything"
        if limits.max_tokens is None:
            missing["max_tokens"] = "no_token_limit", "medium", "a run of it may use any number of tokens"
    for name, (code, severity, what) in missing.items():
        yield Finding(code, severity, f"limits.{name}", f"Without limits.{name} {what}.")


def _writes(spec: AgentSpec) -> Iterator[Finding]:
    if isinstance(spec, LlmAgent):
        writing = [f"tools[{at}].effects" for at, source in enumerate(spec.tools) if source.effects is Effects.WRITE]
    else:
        writing = ["effects"] if spec.effects is Effects.WRITE else []
    message = "It writes, and asks nobody by itself: let an approval come before, by a rule or in the orchestration."
    for path in writing:
        yield Finding("write_without_approval", "medium", path, message)
