"""Texts that seem to hold a secret: keys of known forms, and random ones beside a word such as token or password."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

POSSIBLE_SECRET = "possible_secret"  # noqa: S105  (the code of a finding)
MIN_CHARACTERS = 16
MIN_ENTROPY_BITS = 3.0
"""Per character; words and names have less, or fewer changes between letters and digits."""
MIN_CHANGES = 3

# Each is bounded where it could begin anywhere: definitions are written by strangers, and long.
_FORMS = {
    "provider_key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}|\bAIza[A-Za-z0-9_-]{35}|\bhf_[A-Za-z0-9]{30,}"),
    "payment_key": re.compile(r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{20,}"),
    "cloud_key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "remit_key": re.compile(r"\brmt_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}\b"),
    "repository_token": re.compile(
        r"\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{50,}|\bglpat-[A-Za-z0-9_-]{20,}|\bnpm_[A-Za-z0-9]{36}"
    ),
    "chat_token": re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    "webhook_secret": re.compile(r"\bwhsec_[A-Za-z0-9+/]{24,}"),
    "signed_token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,1000}\.eyJ[A-Za-z0-9_-]{10,1000}\.[A-Za-z0-9_-]{10}"),
    "private_key": re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    "password_in_address": re.compile(r"\b[a-z][a-z0-9+.-]{0,20}://[^\s:/@]{1,200}:[^\s:/@$]{3,200}@"),
}
_WORD = r"(?:key|token|secret|passw(?:or)?d|passphrase|credential|bearer|authorization)s?"
_NAME = re.compile(_WORD, re.IGNORECASE)
_VALUE = r"[A-Za-z0-9+/_=.~-]"
_BESIDE = re.compile(
    rf"{_WORD}[\"'`]?(?:\s+(?:is|are|be|was))?[\s\"'`:=<(]{{1,4}}({_VALUE}{{{MIN_CHARACTERS},}})", re.IGNORECASE
)
_ALONE = re.compile(rf"\s*(?:Bearer\s+|Basic\s+)?({_VALUE}{{{MIN_CHARACTERS},}})\s*")
_SEPARATORS = re.compile(r"[-_./=+~]")
_CHANGE = re.compile(r"(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])")


def leaks_in(text: str, name: str = "") -> Iterator[str]:
    """The kinds of secret that a text seems to hold, each once; `name` is what the text is called."""
    found = [kind for kind, form in _FORMS.items() if form.search(text)]
    yield from found
    if not found and _has_random(text, name):
        yield POSSIBLE_SECRET


def is_random(text: str) -> bool:
    """Whether a text without spaces looks drawn by lot: no word, no name with a number, no date."""
    if len(text) < MIN_CHARACTERS:
        return False
    changes = sum(len(_CHANGE.findall(part)) for part in _SEPARATORS.split(text))
    return changes >= MIN_CHANGES and entropy_bits(text) >= MIN_ENTROPY_BITS


def entropy_bits(text: str) -> float:
    """Shannon's entropy per character, by how often each occurs."""
    total = len(text)
    return -sum(count / total * math.log2(count / total) for count in Counter(text).values())


def _has_random(text: str, name: str) -> bool:
    if _NAME.search(name) and (alone := _ALONE.fullmatch(text)) and is_random(alone[1]):
        return True
    return any(is_random(beside[1]) for beside in _BESIDE.finditer(text))
