from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.domain.hosts import host_of, is_host, is_listed

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


@given(HOST, st.sets(HOST))
def test_a_listed_host_is_listed_however_it_is_written(host: str, others: set[str]) -> None:
    assert is_listed(host_of(f"https://{host.upper()}:8443/x?y"), {host, *others})
    assert is_listed(host_of(f"https://{host}./"), {host})


@given(HOST, LABEL)
def test_a_star_names_what_is_below_and_nothing_else(host: str, label: str) -> None:
    listed = {f"*.{host}"}
    assert is_listed(f"{label}.{host}", listed)
    assert is_listed(f"{label}.{label}.{host}", listed)
    assert not is_listed(host, listed)
    assert not is_listed(f"{label}{host}", listed)
    assert not is_listed(f"{host}.{label}.elsewhere", listed)  # no label is so long


@given(HOST)
def test_every_host_and_everything_below_it_can_stand_in_the_list(host: str) -> None:
    assert is_host(host)
    assert is_host(f"*.{host}")


@pytest.mark.parametrize(
    "text", ["", "*", "*.", "a b", "https://a.example", "a.example:443", "*.*.a", "a..b", "a." * 200]
)
def test_what_is_no_host(text: str) -> None:
    assert not is_host(text)


def test_addresses_are_hosts() -> None:
    assert all(is_host(text) for text in ("10.0.0.1", "::1", "2001:db8::7", "localhost"))
