from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import ConflictError
from chassis.ids import new_id
from execution.domain.promotions import (
    Promotion,
    There,
    approvers_named,
    plan_promotion,
    promotion_digest,
    require_path,
)
from execution.domain.versions import is_higher

NUMBERS = st.sampled_from(["1.0.0", "1.0.1-rc.1", "1.0.1", "1.1.0", "2.0.0"])
DIGESTS = st.sampled_from(["a", "b"])


class Workspace:
    """The versions of one agent in one workspace, as plain values."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.current = ""

    def there(self, semver: str) -> There | None:
        if not self.digests:
            return None
        return There(self.current, next(reversed(self.digests)), self.digests.get(semver))

    def refusal(self, semver: str, digest: str) -> str | None:
        try:
            plan_promotion(semver, digest, self.there(semver))
        except ConflictError as refused:
            return refused.code
        return None

    def promote(self, semver: str, digest: str) -> Promotion:
        plan = plan_promotion(semver, digest, self.there(semver))
        if plan is Promotion.SAVE:
            assert semver not in self.digests
            assert all(is_higher(semver, other) for other in self.digests)
            self.digests[semver] = digest
        if plan is not Promotion.NOTHING:
            self.current = semver
        return plan


@given(st.lists(st.tuples(NUMBERS, DIGESTS, st.booleans()), max_size=12))
def test_promotions_keep_numbers_rising_and_content_unchanged(moves: list[tuple[str, str, bool]]) -> None:
    workspace = Workspace()
    for semver, digest, then_back in moves:
        code = workspace.refusal(semver, digest)
        if code is not None:
            different = workspace.digests.get(semver, digest) != digest
            assert code == ("version_differs" if different else "version_not_higher")
            continue
        workspace.promote(semver, digest)
        assert (workspace.current, workspace.digests[semver]) == (semver, digest)
        assert workspace.promote(semver, digest) is Promotion.NOTHING
        if then_back and workspace.digests:
            workspace.current = next(iter(workspace.digests))


def test_a_version_that_was_rolled_back_there_runs_again() -> None:
    assert plan_promotion("1.0.1", "b", There("1.0.0", "1.0.1", "b")) is Promotion.POINT
    assert plan_promotion("1.0.0", "a", There("1.0.0", "1.0.1", "a")) is Promotion.NOTHING


def test_a_path_leads_from_one_workspace_to_the_next() -> None:
    here, elsewhere = new_id(), new_id()
    require_path(from_workspace=here, promotion_from=here)
    for promotion_from in (None, elsewhere):
        with pytest.raises(ConflictError) as refused:
            require_path(from_workspace=here, promotion_from=promotion_from)
        assert refused.value.code == "no_promotion_path"


SOMEBODY = str(new_id())


@pytest.mark.parametrize(
    ("required", "named"),
    [
        ([], []),
        (["operator"], ["role:operator"]),
        (["role:operator", "operator", "tech_lead"], ["role:operator"]),
        ([SOMEBODY, "viewer"], [f"user:{SOMEBODY}"]),
        ([f"user:{SOMEBODY}"], [f"user:{SOMEBODY}"]),
    ],
)
def test_a_workspace_names_who_approves(required: list[str], named: list[str]) -> None:
    assert approvers_named(required, {"operator", "org_admin"}) == named


@given(st.lists(st.sampled_from(("tech_lead", "viewer", "role:viewer")), min_size=1))
def test_names_of_nobody_who_decides_are_refused_and_never_become_everybody(required: list[str]) -> None:
    with pytest.raises(ConflictError) as refused:
        approvers_named(required, {"operator"})
    assert refused.value.code == "nobody_may_approve"


IDS = [new_id() for _ in range(3)]
asked = st.fixed_dictionaries(
    {
        "agent_id": st.sampled_from(IDS),
        "version_id": st.sampled_from(IDS),
        "config_digest": DIGESTS,
        "from_to": st.tuples(st.sampled_from(IDS), st.sampled_from(IDS)),
        "approvers": st.lists(st.sampled_from(("role:operator", "role:org_admin")), unique=True).map(sorted),
    }
)


@given(asked, asked)
def test_an_approval_is_good_for_exactly_what_was_asked(one: Any, other: Any) -> None:
    assert (promotion_digest(**one) == promotion_digest(**other)) is (one == other)
