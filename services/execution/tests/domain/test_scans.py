from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.execution.tests.domain.test_leaks import DRAWN, FORMS

from execution.domain.definitions import agent_of
from execution.domain.scans import FAILED, FAILING, HIDDEN, MAX_FINDINGS, PASSED, results_of, scan_agent, status_of

BOUNDED: dict[str, Any] = {
    "apiVersion": "agent/v1",
    "kind": "llm",
    "model": {"provider": "embedded"},
    "limits": {"max_cost_usd": "0.05", "max_tokens": 2000, "timeout": "60s"},
}
HTTP: dict[str, Any] = {
    "apiVersion": "agent/v1",
    "kind": "http",
    "http": {"url": "https://agents.example.com/x"},
    "limits": {"timeout": "60s"},
}


def codes(config: dict[str, Any], *known: str) -> list[tuple[str, str, str]]:
    found = scan_agent(config, agent_of(config), known)
    return [(finding.code, finding.severity, finding.path) for finding in found]


def test_scan_of_a_bounded_agent_finds_nothing() -> None:
    assert codes(BOUNDED) == []


@pytest.mark.parametrize("kind", FORMS)
def test_scan_fails_for_a_secret_anywhere(kind: str) -> None:
    config = BOUNDED | {"input_schema": {"examples": [{"b": f"before {FORMS[kind]} after"}]}}
    assert codes(config) == [(kind, "critical", "input_schema.examples[0].b")]
    assert status_of(scan_agent(config, agent_of(config), ())) == FAILED


@given(DRAWN, st.sampled_from(["value", "key", "both"]))
def test_scan_never_repeats_a_secret(drawn: str, where: str) -> None:
    secret = f"token={drawn}"
    inner = {"value": {"x": secret}, "key": {secret: "x"}, "both": {secret: [secret]}}[where]
    config = BOUNDED | {"input_schema": {"examples": [inner]}}
    findings = scan_agent(config, agent_of(config), ())
    assert {finding.code for finding in findings} == {"possible_secret"}
    shown = str(results_of(findings))
    assert not [at for at in range(len(drawn) - 8) if drawn[at : at + 8] in shown]
    assert (HIDDEN in shown) == (where != "value")


def test_scan_tells_each_missing_limit() -> None:
    assert codes(BOUNDED | {"limits": {}}) == [
        ("no_cost_limit", "medium", "limits.max_cost_usd"),
        ("no_token_limit", "medium", "limits.max_tokens"),
        ("no_time_limit", "low", "limits.timeout"),
    ]
    assert ("no_cost_limit", "medium", "limits.max_cost_usd") not in codes(HTTP)
    assert ("no_time_limit", "low", "limits.timeout") in codes(HTTP | {"limits": {}})


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"kind": "python", "python": {"function": "pay"}, "effects": "write"}, "effects"),
        ({"kind": "mcp", "server": {"url": "https://tools.example.com"}, "tool": "pay"}, "effects"),
        (HTTP | {"effects": "write"}, "effects"),
        (BOUNDED | {"tools": [{"mcp": {"url": "https://tools.example.com"}, "tools": ["pay"]}]}, "tools[0].effects"),
    ],
)
def test_scan_tells_writes_that_ask_nobody(part: dict[str, Any], path: str) -> None:
    config = {"apiVersion": "agent/v1", "limits": {"timeout": "60s"}, **part}
    written = ("write_without_approval", "medium", path)
    assert written in codes(config, "*.example.com")
    assert status_of(scan_agent(config, agent_of(config), ["*.example.com"])) == PASSED
    if "effects" in part:
        assert written not in codes(config | {"effects": "idempotent"}, "*.example.com")


def test_scan_knows_hosts_by_the_organizations_list() -> None:
    assert codes(HTTP) == [("unknown_host", "low", "http.url")]
    assert codes(HTTP, "agents.example.com") == []
    assert codes(HTTP, "other.example.com") == [("unknown_host", "high", "http.url")]
    local = HTTP | {"http": {"url": "http://127.0.0.1:8/x"}}
    assert codes(local) == []
    assert codes(local, "agents.example.com") == [("unknown_host", "high", "http.url")]


def test_scan_looks_at_every_address_that_is_called() -> None:
    other = {"provider": "openai-compatible", "name": "m", "base_url": "https://b.example.com"}
    config = BOUNDED | {
        "model": other | {"base_url": "https://a.example.com", "fallback": [other]},
        "tools": [{"mcp": {"url": "https://c.example.com"}, "tools": ["t"], "effects": "read"}],
        "input_schema": {"properties": {"url": {"type": "string"}}, "examples": [{"url": "http://d.example.com"}]},
    }
    assert [path for _, _, path in codes(config, "z.example.com")] == [
        "model.base_url", "model.fallback[0].base_url", "tools[0].mcp.url",
    ]  # fmt: skip


def test_scan_tells_an_address_without_tls() -> None:
    config = HTTP | {"http": {"url": "http://agents.example.com/x"}}
    assert codes(config, "agents.example.com") == [("unprotected_address", "medium", "http.url")]


@given(st.integers(0, 2 * MAX_FINDINGS))
def test_scan_results_keep_the_gravest(count: int) -> None:
    leaks = [f"token={hashlib.sha256(str(number).encode()).hexdigest()}" for number in range(count)]
    config = BOUNDED | {"limits": {}, "input_schema": {"examples": leaks}}
    results = results_of(scan_agent(config, agent_of(config), ()))
    assert len(results["findings"]) == min(count + 3, MAX_FINDINGS)
    assert results["left_out"] == max(0, count + 3 - MAX_FINDINGS)
    assert results["passed"] == (count == 0)
    grave = [finding["severity"] in FAILING for finding in results["findings"]]
    assert grave == sorted(grave, reverse=True)
