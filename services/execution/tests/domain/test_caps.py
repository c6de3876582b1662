from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.domain.caps import Wish, promise, told_usage, total, usage_of, used_by
from execution.domain.runs import Limits, Usage

NUMBERS = st.integers(0, 50)
MAYBE = st.none() | st.integers(1, 50)
LIMITS = st.builds(Limits, max_cost_usd_micros=MAYBE, max_tokens=MAYBE, max_steps=MAYBE)
WISHES = st.builds(Wish, LIMITS, st.integers(1, 50))


@dataclass
class Tree:
    """A run that asks for children and hears of their ends, in whatever order."""

    limits: Limits
    used: Usage = field(default_factory=Usage)
    open: list[Usage] = field(default_factory=list)
    own: int = 0

    @property
    def spent(self) -> Usage:
        spent = total(self.used, *self.open)
        return Usage(spent.cost_usd_micros, spent.tokens, spent.steps + self.own + len(self.open))

    def ask(self, wish: Wish, sharing: int) -> Limits | None:
        if self.limits.max_steps is not None and self.spent.steps + 2 > self.limits.max_steps:
            return None
        given_ = promise(self.limits, self.spent, wish, sharing=sharing, may_wait=bool(self.open))
        if given_ is not None:
            self.open.append(used_by(given_))
        return given_

    def end(self, at: int, share: float) -> None:
        may = self.open.pop(at % len(self.open))
        self.own += 1
        self.used = total(
            self.used,
            Usage(int(may.cost_usd_micros * share), int(may.tokens * share), int(may.steps * share)),
        )

    def is_within(self) -> bool:
        spent = self.spent
        pairs = [
            (spent.cost_usd_micros, self.limits.max_cost_usd_micros),
            (spent.tokens, self.limits.max_tokens),
            (spent.steps, self.limits.max_steps),
        ]
        return all(most is None or used <= most for used, most in pairs)


MOVES = st.lists(
    st.tuples(st.just("ask"), WISHES, st.integers(1, 5)) | st.tuples(st.just("end"), NUMBERS, st.floats(0, 1)),
    max_size=30,
)


@given(LIMITS, MOVES)
def test_whatever_is_promised_and_used_a_tree_keeps_within_the_limits_of_its_root(limits: Limits, moves: list) -> None:  # type: ignore[type-arg]
    tree = Tree(limits)
    for what, one, other in moves:
        if what == "ask":
            tree.ask(one, other)
        elif tree.open:
            tree.end(one, other)
        assert tree.is_within()


@given(LIMITS, WISHES, st.integers(1, 5))
def test_where_no_other_child_is_under_way_there_is_always_an_answer(limits: Limits, wish: Wish, sharing: int) -> None:
    given_ = promise(limits, Usage(), wish, sharing=sharing, may_wait=False)
    assert given_ is not None
    for name in ("max_cost_usd_micros", "max_tokens", "max_steps"):
        own, most, got = getattr(wish.limits, name), getattr(limits, name), getattr(given_, name)
        assert own is None or got <= own
        assert most is None or got <= most
        assert (got is None) <= (own is None and most is None)


@pytest.mark.parametrize(
    ("left", "own", "may_wait", "gets"),
    [(40, 16, True, 16), (10, 16, True, None), (10, 16, False, 10), (10, None, True, 5), (1, None, True, None)],
)
def test_who_has_a_limit_gets_it_or_waits_and_who_has_none_shares(
    left: int, own: int | None, may_wait: Any, gets: int | None
) -> None:
    parent = Limits(max_tokens=left)
    given_ = promise(parent, Usage(), Wish(Limits(max_tokens=own), 1), sharing=2, may_wait=may_wait)
    assert (None if given_ is None else given_.max_tokens) == gets


def test_a_child_takes_no_more_steps_than_its_graph_has() -> None:
    given_ = promise(Limits(max_steps=100), Usage(), Wish(Limits(max_steps=100), 3), sharing=1, may_wait=True)
    assert given_ is not None
    assert given_.max_steps == 3


def test_usage_is_read_as_it_was_written() -> None:
    usage = Usage(cost_usd_micros=1, tokens=2, steps=3)
    assert usage_of(told_usage(usage)) == usage
