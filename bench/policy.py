"""Microseconds per decision with 200 policies and 1,000 rules, a six-part condition on four of five rules.

    python bench/policy.py [decisions]

Prints one JSON line per number. `engine_floor` is the same condition evaluated bare, in the same process and rounds:
what is above it is ours.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from pdp.bundle import Bundle, BundleDocument
from pdp.cel import Expression
from pdp.decide import DecisionRequest, Principal, Resource, decide
from pdp.matrix import ORGANIZATION_ROLES, PERMISSIONS

ORGANIZATION = "organization"
POLICIES, RULES_EACH = 200, 5
NOW = datetime(2026, 11, 22, tzinfo=UTC)
ROUNDS = 3
CONDITION = (
    "resource.attr.department in principal.teams && resource.attr.status in ['draft', 'review'] && "
    "resource.attr.sensitivity <= {limit} && resource.attr.region == 'eu' && resource.attr.amount < {amount} && "
    "resource.attr.created_by == principal.id"
)


def documents(actions: list[str]) -> list[BundleDocument]:
    """Policies whose rules spread evenly over the actions."""
    found = []
    for policy in range(POLICIES):
        lines = ["apiVersion: policy/v1", "type: abac", "rules:"]
        for rule in range(RULES_EACH):
            action = actions[(policy * RULES_EACH + rule) % len(actions)]
            lines += [
                f"  - rule_name: rule-{rule}",
                f"    effect: {'deny' if rule == 4 else 'allow'}",
                f'    actions: ["{action}"]',
                f"    roles: [{ORGANIZATION_ROLES[(policy + rule) % 5]}]",
            ]
            if rule != 1:
                lines.append(f'    when: "{CONDITION.format(limit=rule, amount=10 * policy + rule)}"')
        found.append(BundleDocument(f"policy-{policy:03}", f"policy {policy}", policy % 7, "\n".join(lines)))
    return found


def requests(actions: list[str], count: int) -> list[DecisionRequest]:
    """Different askers, rows and actions, always the same ones."""
    chance = random.Random(7)
    found = []
    for _ in range(count):
        action, asker = chance.choice(actions), f"user-{chance.randrange(50)}"
        found.append(
            DecisionRequest(
                principal=Principal(
                    id=asker,
                    kind="user",
                    organization_id=ORGANIZATION,
                    roles=frozenset((chance.choice(ORGANIZATION_ROLES),)),
                    teams=frozenset((chance.choice("abc"),)),
                ),
                action=action,
                resource=Resource(
                    kind=action.partition(":")[0],
                    id=f"row-{chance.randrange(10_000)}",
                    organization_id=ORGANIZATION,
                    attr={
                        "department": chance.choice("abc"),
                        "status": chance.choice(("draft", "review", "done")),
                        "sensitivity": chance.randrange(4),
                        "region": chance.choice(("eu", "eu", "us")),
                        "amount": chance.randrange(1_000),
                        "created_by": asker if chance.random() < 0.7 else "user-x",
                    },
                ),
                organization_id=ORGANIZATION,
                now=NOW,
            )
        )
    return found


def per_call(call: Callable[[int], object], count: int) -> list[int]:
    """Nanoseconds of each call."""
    clock, taken = time.perf_counter_ns, []
    for index in range(count):
        start = clock()
        call(index)
        taken.append(clock() - start)
    return sorted(taken)


def processor_us(call: Callable[[int], object], count: int) -> float:
    """Microseconds of this thread's own processor time per call: what a busy machine adds is left out."""
    start = time.thread_time()
    for index in range(count):
        call(index)
    return (time.thread_time() - start) / count * 1e6


def emit(name: str, value: float, unit: str) -> None:
    """One result."""
    print(json.dumps({"name": name, "value": round(value, 2), "unit": unit}), flush=True)


def main() -> None:
    """Compile, then time decisions and the bare engine in interleaved rounds; medians of the rounds."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    actions = sorted(
        permission for permission in PERMISSIONS if not permission.startswith(("platform:", "organization:"))
    )
    actions = [action for action in actions if not action.startswith(("billing:", "subscription:"))]
    start = time.perf_counter()
    bundle = Bundle.compile(ORGANIZATION, 1, documents(actions))
    emit("policy_compile_ms", (time.perf_counter() - start) * 1e3, "ms")
    start = time.perf_counter()
    Bundle.load(bundle.source())
    emit("policy_load_unchanged_ms", (time.perf_counter() - start) * 1e3, "ms")
    emit("policy_bundle_kb", len(bundle.source()) / 1024, "KB")
    asked = requests(actions, 2_000)
    bare = Expression.compile(CONDITION.format(limit=2, amount=900), roots=("principal", "resource"))
    values = [
        {
            "principal": {"id": each.principal.id, "teams": list(each.principal.teams)},
            "resource": {"attr": each.resource.attr},
        }
        for each in asked
    ]
    size = len(asked)
    calls: dict[str, Callable[[int], object]] = {
        "policy_decision": lambda index: decide(asked[index % size], bundle),
        "policy_matrix_only": lambda index: decide(asked[index % size], None),
        "policy_engine_floor": lambda index: bare.truth(bare.hold(values[index % size])),
    }
    rounds = [
        {name: (per_call(call, count), processor_us(call, count)) for name, call in calls.items()}
        for _ in range(ROUNDS)
    ]
    for name in calls:
        for label, part in (("p50", 0.5), ("p99", 0.99)):
            emit(
                f"{name}_{label}_us", statistics.median(each[name][0][int(count * part)] for each in rounds) / 1e3, "us"
            )
        emit(f"{name}_processor_us", statistics.median(each[name][1] for each in rounds), "us")
    rules_per_action = POLICIES * RULES_EACH / len(actions)
    emit("policy_rules_per_action", rules_per_action, "rules")
    emit("policy_allowed_share", sum(decide(each, bundle).is_allowed for each in asked) / size, "ratio")


if __name__ == "__main__":
    main()
