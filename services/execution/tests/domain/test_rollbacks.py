from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import ConflictError
from execution.domain.revisions import Standing

NUMBERS = st.sampled_from(["1.0.0", "1.0.1", "1.1.0", "2.0.0"])
MOVES = st.lists(st.tuples(st.sampled_from(["moved", "rolled_back"]), NUMBERS), max_size=8)


def after(moves: list[tuple[str, str]]) -> Standing:
    standing = Standing("1.0.0")
    for how, to in moves:
        standing = getattr(standing, how)(to)
    return standing


@given(MOVES, st.none() | NUMBERS)
def test_rollback_again_changes_nothing(moves: list[tuple[str, str]], to: str | None) -> None:
    standing = after(moves)
    if to is None and standing.previous is None:
        return
    once = standing.rolled_back(to)
    assert once.rolled_back(to) == once


@given(MOVES, NUMBERS)
def test_rollback_goes_to_what_was_current_before_the_last_move(moves: list[tuple[str, str]], to: str) -> None:
    before = after(moves)
    moved = before.moved(to)
    if moved != before:
        assert moved.rolled_back(None) == Standing(before.current, to, to)


@given(MOVES)
def test_previous_is_never_the_current_one(moves: list[tuple[str, str]]) -> None:
    standing = after(moves)
    assert standing.current != standing.previous
    assert standing.rolled_back_from in {None, standing.previous}
    assert (standing.previous is None) == (standing == Standing("1.0.0"))


def test_rollback_needs_something_before() -> None:
    with pytest.raises(ConflictError) as refused:
        Standing("1.0.0").rolled_back(None)
    assert refused.value.code == "no_earlier_version"
