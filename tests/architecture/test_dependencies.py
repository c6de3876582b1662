from __future__ import annotations

from remit_local.dev.dependencies import undeclared


def test_each_package_declares_what_it_imports() -> None:
    assert not undeclared()
