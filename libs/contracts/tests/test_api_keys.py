import string

from hypothesis import given
from hypothesis import strategies as st

from contracts.api_keys import ALPHABET, KEY_LENGTH, hash_secret, make_key, parse_key


def test_a_fresh_key_parses_to_its_stored_parts() -> None:
    key, stored = make_key()
    parsed = parse_key(key)
    assert parsed == stored
    assert len(key) == KEY_LENGTH
    assert key.startswith(f"rmt_{stored.key_prefix}_")
    assert stored.secret_sha256 == hash_secret(key[17:49])
    assert key[17:49] not in repr(stored)


@given(st.integers(0, KEY_LENGTH - 1), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_noticed(place: int, character: str) -> None:
    key, _ = make_key()
    wrong = key[:place] + character + key[place + 1 :]
    assert (parse_key(wrong) is None) == (wrong != key)


@given(st.one_of(st.text(max_size=80), st.text(string.printable, min_size=KEY_LENGTH, max_size=KEY_LENGTH)))
def test_anything_else_is_refused(text: str) -> None:
    assert parse_key(text) is None
