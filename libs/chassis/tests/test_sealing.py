import os
from pathlib import Path

import pytest

from chassis.sealing import Keyring, Sealed, UnsealError, write_keyring


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.read(write_keyring(tmp_path / "keys.json"))


def test_a_secret_comes_back_and_never_looks_the_same(keyring: Keyring) -> None:
    first, second = keyring.seal(b"sk-secret", "o/t/1"), keyring.seal(b"sk-secret", "o/t/1")
    assert keyring.open(first, "o/t/1") == keyring.open(second, "o/t/1") == b"sk-secret"
    assert first.ciphertext != second.ciphertext
    assert b"sk-secret" not in first.ciphertext


def test_a_secret_opens_only_in_its_place(keyring: Keyring) -> None:
    with pytest.raises(UnsealError):
        keyring.open(keyring.seal(b"x", "o/t/1"), "o/t/2")


@pytest.mark.parametrize("at", [0, 20, -1])
def test_a_changed_byte_is_noticed(keyring: Keyring, at: int) -> None:
    sealed = keyring.seal(b"0123456789", "o/t/1")
    changed = bytearray(sealed.ciphertext)
    changed[at] ^= 1
    with pytest.raises(UnsealError):
        keyring.open(Sealed(bytes(changed), sealed.wrapped_key, sealed.kek_id), "o/t/1")


def test_an_old_key_still_opens_what_it_sealed() -> None:
    old = Keyring("a", {"a": bytes(32)})
    both = Keyring("b", {"a": bytes(32), "b": os.urandom(32)})
    sealed = old.seal(b"x", "o/t/1")
    assert both.open(sealed, "o/t/1") == b"x"
    assert both.seal(b"x", "o/t/1").kek_id == "b"
    with pytest.raises(UnsealError):
        old.open(both.seal(b"x", "o/t/1"), "o/t/1")


def test_a_keyring_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = write_keyring(tmp_path / "keys.json")
    before = path.read_bytes()
    assert write_keyring(path).read_bytes() == before
    path.chmod(0o644)
    with pytest.raises(PermissionError):
        Keyring.read(path)
