from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import ConflictError
from chassis.ids import new_id
from execution.domain.promotions import Promotion, There, plan_promotion, require_path
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
    require_path(from_workspace=here, promotion_from=here, requires_approval=False)
    for promotion_from in (None, elsewhere):
        with pytest.raises(ConflictError) as refused:
            require_path(from_workspace=here, promotion_from=promotion_from, requires_approval=True)
        assert refused.value.code == "no_promotion_path"
    with pytest.raises(ConflictError, match="not there yet") as refused:
        require_path(from_workspace=here, promotion_from=here, requires_approval=True)
    assert refused.value.code == "approval_required"
