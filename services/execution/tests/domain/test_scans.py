from __future__ import annotations

import pytest

from execution.domain.scans import FAILED, PASSED, results_of, scan_config, status_of


@pytest.mark.parametrize(
    "secret",
    [
        "sk-" + "a1" * 12,
        "AKIA" + "ABCDEFGH12345678",
        "ghp_" + "a" * 36,
        "-----BEGIN RSA PRIVATE KEY-----",
        "rmt_" + "A" * 12 + "_" + "b" * 38,
    ],
)
def test_a_secret_anywhere_fails_the_scan_and_is_not_repeated(secret: str) -> None:
    findings = scan_config({"a": [{"b": f"before {secret} after"}]})
    assert [(finding.severity, finding.path) for finding in findings] == [("high", "a[0].b")]
    assert status_of(findings) == FAILED
    assert secret not in str(results_of(findings))


def test_an_address_without_tls_is_told_and_passes() -> None:
    findings = scan_config({"http": {"url": "http://agents.example.com/x"}, "local": "http://127.0.0.1:1/"})
    assert [(finding.rule, finding.path) for finding in findings] == [("unprotected_address", "http.url")]
    assert status_of(findings) == PASSED


def test_ordinary_words_pass() -> None:
    assert scan_config({"instructions": "Ask for the sk-ills and the task. rmt_ is a prefix.", "n": 1}) == []
