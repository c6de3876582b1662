from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.domain.versions import digest_of, is_version, next_version

EXPECTED = "07f4a48bd10cda1fb677c0f929f54858b10248204eae7ab57172bd94dee154d3"


def shuffled(value: object, seed: random.Random) -> object:
    if isinstance(value, dict):
        keys = list(value)
        seed.shuffle(keys)
        return {key: shuffled(value[key], seed) for key in keys}
    return [shuffled(item, seed) for item in value] if isinstance(value, list) else value


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.text(st.characters(exclude_categories=("Cs",))),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner)
        ),
        max_leaves=15,
    ),
    st.randoms(use_true_random=False),
)
def test_digest_is_stable_under_key_order(value: object, seed: random.Random) -> None:
    assert digest_of(shuffled(value, seed)) == digest_of(value)


def test_digest_is_the_hash_of_the_rfc_8785_form() -> None:
    # printf '%s' '{"a":1,"b":[true,null,"€"]}' | sha256sum
    assert digest_of({"b": [True, None, "€"], "a": 1.0}) == f"sha256:{EXPECTED}"
    assert digest_of({"b": [True, None, "e"], "a": 1}) != f"sha256:{EXPECTED}"


@pytest.mark.parametrize(
    ("current", "wanted", "following"),
    [
        (None, None, "1.0.0"),
        (None, "2.3.1", "2.3.1"),
        ("1.0.0", None, "1.0.1"),
        ("1.0.9", "1.1.0", "1.1.0"),
        ("1.1.0", "1.1.0", "1.1.1"),
        ("2.0.0", "1.9.9", "2.0.1"),
        ("2.0.0-rc.1", None, "2.0.0"),
    ],
)
def test_next_version(current: str | None, wanted: str | None, following: str) -> None:
    assert next_version(current, wanted) == following


def test_what_is_a_version() -> None:
    assert is_version("1.2.3-rc.1+build")
    assert not any(is_version(text) for text in ("1.2", "v1.2.3", "01.2.3", "", "1.2.3\n", "1.2.3-" + "a" * 64))
