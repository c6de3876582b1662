from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.domain.leaks import POSSIBLE_SECRET, entropy_bits, is_random, leaks_in

DRAWN = st.binary(max_size=8).map(lambda seed: hashlib.sha256(seed).hexdigest()[:40])
"""As random as a key, whatever the seed."""
WORDS = st.sampled_from(["api_key", "apiKey", "token", "Password", "client secret", "credential", "Authorization"])
FORMS = {
    "provider_key": "sk-" + "a1" * 12,
    "payment_key": "sk_live_" + "a1" * 12,
    "cloud_key": "AKIA" + "ABCDEFGH12345678",
    "repository_token": "ghp_" + "a" * 36,
    "chat_token": "xoxb-" + "1a" * 8,
    "webhook_secret": "whsec_" + "b" * 32,
    "signed_token": "eyJ" + "a" * 12 + ".eyJ" + "b" * 12 + "." + "c" * 12,
    "private_key": "-----BEGIN RSA PRIVATE KEY-----",
    "remit_key": "rmt_" + "A" * 12 + "_" + "b" * 38,
    "password_in_address": "postgres://app:hunter22@db.example.com/x",
}


@pytest.mark.parametrize("kind", FORMS)
def test_known_forms_are_named(kind: str) -> None:
    assert list(leaks_in(f"before {FORMS[kind]} after")) == [kind]


@given(DRAWN, WORDS, st.sampled_from([": ", "=", " is ", ' = "', ": `"]))
def test_what_is_drawn_by_lot_beside_a_word_for_a_secret_is_found(drawn: str, word: str, between: str) -> None:
    assert list(leaks_in(f"use {word}{between}{drawn} for it")) == [POSSIBLE_SECRET]
    assert list(leaks_in(drawn, word)) == list(leaks_in(f"Bearer {drawn}", word)) == [POSSIBLE_SECRET]


@given(DRAWN)
def test_what_stands_beside_nothing_is_left_alone(drawn: str) -> None:
    assert list(leaks_in(f"the digest {drawn} of it", "digest")) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("claude-prod-2024-eu-west", "credential"),
        ("Ask for the sk-ills and the task. rmt_ is a prefix.", "instructions"),
        ("Count the tokens: about twenty thousand of them", "instructions"),
        ("password: your-own-long-password", "instructions"),
        ("https://agents.example.com/token/refresh", "url"),
        ("the key customer_identification_number", "instructions"),
        ("aaaaaaaa1111111122222222", "token"),
    ],
)
def test_words_and_names_are_no_secrets(text: str, name: str) -> None:
    assert list(leaks_in(text, name)) == []


@given(st.text(min_size=1))
def test_entropy_is_at_most_that_of_all_characters_alike(text: str) -> None:
    assert 0 <= entropy_bits(text) <= max(0.0, len(set(text)).bit_length())
    assert not is_random(text[0] * 40)


@pytest.mark.parametrize("part", ["a.", "eyJ-", "key ", "a://b:", "token=", "sk-", "eyJ" + "a" * 20 + "."])
def test_long_texts_are_read_in_no_time(part: str) -> None:
    text = part * (128 * 1024 // len(part))
    before = time.process_time()
    list(leaks_in(text, "token"))
    assert time.process_time() - before < 1
