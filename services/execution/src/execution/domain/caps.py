"""What a run may still use, and what of it a child run is promised.

A promise is spent until the child has ended, and then what the child and its own children have used takes its place:
so a tree of runs never uses more than its root may, whatever ends in whichever order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from execution.domain.runs import Limits, Usage


@dataclass(frozen=True, slots=True)
class Wish:
    """What a child would be given where there is plenty."""

    limits: Limits
    """Its own."""
    most_steps: int
    """It cannot take more."""


def promise(parent: Limits, spent: Usage, wish: Wish, *, sharing: int, may_wait: bool) -> Limits | None:
    """The limits of a child of a run that has `spent` so much; None: not before another child has ended.

    A child with a limit of its own gets that, or what is left where no other child is under way (`may_wait`). One
    without shares what is left with whatever starts now: `sharing`, itself included.
    """
    wanted = replace(wish.limits, max_steps=_least(wish.limits.max_steps, wish.most_steps))
    shares = [
        _share(parent.max_cost_usd_micros, spent.cost_usd_micros, wanted.max_cost_usd_micros, sharing, may_wait),
        _share(parent.max_tokens, spent.tokens, wanted.max_tokens, sharing, may_wait),
        # The step that the child is counts too.
        _share(parent.max_steps, spent.steps + 1, wanted.max_steps, sharing, may_wait),
    ]
    if any(share is not None and share < 0 for share in shares):
        return None
    return Limits(
        max_cost_usd_micros=shares[0],
        max_tokens=shares[1],
        max_steps=shares[2],
        max_depth=_least(parent.max_depth, wanted.max_depth),
        timeout_seconds=wanted.timeout_seconds,
    )


def below(limits: Limits, depth: int) -> Limits:
    """The limits of a definition that runs so deep: how many runs may be below it, it says of itself."""
    return limits if limits.max_depth is None else replace(limits, max_depth=limits.max_depth + depth)


def used_by(limits: Limits) -> Usage:
    """What somebody with these limits may use; what is unlimited there is so in the whole tree, and counted nowhere."""
    return Usage(
        cost_usd_micros=limits.max_cost_usd_micros or 0, tokens=limits.max_tokens or 0, steps=limits.max_steps or 0
    )


def usage_of(told: Mapping[str, Any]) -> Usage:
    """The usage that `told_usage` has written."""
    return Usage(cost_usd_micros=told["cost_usd_micros"], tokens=told["tokens"], steps=told["steps"])


def told_usage(usage: Usage) -> dict[str, int]:
    """The usage as a row holds it."""
    return {"cost_usd_micros": usage.cost_usd_micros, "tokens": usage.tokens, "steps": usage.steps}


def told_limits(limits: Limits) -> dict[str, Any]:
    """The limits as a row holds them."""
    return asdict(limits)


def total(*usages: Usage) -> Usage:
    """All of these together."""
    return Usage(
        cost_usd_micros=sum(usage.cost_usd_micros for usage in usages),
        tokens=sum(usage.tokens for usage in usages),
        steps=sum(usage.steps for usage in usages),
    )


def _share(most: int | None, spent: int, wanted: int | None, sharing: int, may_wait: bool) -> int | None:  # noqa: FBT001
    """Of one thing that is limited; less than nothing: come again when there is more."""
    if most is None:
        return wanted
    left = max(0, most - spent)
    if wanted is not None and wanted <= left:
        return wanted
    share = left if wanted is not None else left // sharing
    return -1 if may_wait and (wanted is not None or share == 0) else share


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
