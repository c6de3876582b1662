from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from execution.domain.run_texts import MAX_STEP_BYTES, TextPieces

TEXTS = st.lists(st.text(min_size=1, max_size=40), max_size=30)


@given(TEXTS, st.sets(st.integers(min_value=0, max_value=30)))
def test_pieces_are_the_text_whenever_they_are_taken(texts: list[str], taken: set[int]) -> None:
    pieces, got = TextPieces(), ""
    for number, text in enumerate(texts):
        assert pieces.add(text)
        if number in taken:
            piece = pieces.take()
            assert piece.at == len(got)
            got += piece.text
    assert got + pieces.take().text == "".join(texts)


@given(st.text(min_size=1, max_size=3), st.integers(min_value=20_000, max_value=30_000))
def test_an_attempt_is_told_so_much_and_says_that_there_was_more(text: str, times: int) -> None:
    pieces, whole = TextPieces(), text * times
    for _ in range(4):
        pieces.add(whole)
    piece = pieces.take()
    size = len(piece.text.encode())
    assert size <= MAX_STEP_BYTES
    assert (whole * 4).startswith(piece.text)
    assert piece.is_cut == (len(whole.encode()) * 4 > MAX_STEP_BYTES)
    assert not piece.is_cut or size > MAX_STEP_BYTES - 4
    assert not piece.is_cut or not pieces.add("more")


def test_what_is_void_is_replaced() -> None:
    pieces = TextPieces()
    pieces.add("one ")
    assert pieces.take() == (0, "one ", False)
    pieces.add("two ")
    pieces.add("")
    pieces.add("another")
    assert pieces.take() == (0, "another", False)


def test_half_a_character_is_no_reason_to_stop() -> None:
    pieces = TextPieces()
    assert pieces.add("\ud83d")
    assert pieces.take().text == "?"
