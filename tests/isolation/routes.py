"""Every operation that the edge publishes, and an example of everything that its paths can name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.chaos.traffic import Organization
from tests.town import Town, until

from chassis.ids import new_id

OPEN_TO_ANYONE = "anyone"
_NAME = re.compile(r"{(\w+)}")
_METHODS = ("get", "put", "post", "patch", "delete")
_POLICY = """
apiVersion: policy/v1
type: abac
rules:
  - {rule_name: never, effect: deny, actions: ["legal_hold:release"], when: resource.attr.name == 'never'}
"""


@dataclass(frozen=True)
class Route:
    """One operation of the merged document."""

    operation: str
    method: str
    path: str
    permission: str

    @property
    def names(self) -> list[str]:
        """What its path is about, outermost first."""
        return _NAME.findall(self.path)

    @property
    def is_the_platforms(self) -> bool:
        """Whether it is about all organizations: there everybody but the platform is a stranger."""
        return self.permission.startswith("platform:") or self.permission in {
            "organization:create", "organization:suspend", "organization:resume",
        }  # fmt: skip

    def at(self, ids: Mapping[str, str]) -> str:
        """The path with these names."""
        return _NAME.sub(lambda found: ids[found[1]], self.path)


async def published(town: Town) -> list[Route]:
    """What the edge says it offers."""
    document: dict[str, Any] = (await town.ask("GET", "/openapi.json", "")).json
    return [
        Route(operation["operationId"], method.upper(), path, operation["x-permission"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in _METHODS
    ]


BODIES: Mapping[str, Mapping[str, Any]] = {
    "update_organization": {"name": "other"},
    "update_user": {"name": "other"},
    "update_workspace": {"description": "other"},
    "update_workspace_limits": {"max_agents": 7},
    "change_plan": {"plan_id": "free"},
    "update_policy": {"priority": 5},
    "assign_policy": {"assignee_type": "user", "assignee_id": str(new_id())},
    "update_agent": {"description": "other"},
    "create_agent_version": {"config_yaml": "apiVersion: agent/v1\nkind: http\nhttp: {url: 'https://a.example/'}\n"},
    "set_current_agent_version": {"semver": "1.0.0"},
    "promote_agent": {"to_workspace": str(new_id())},
    "rollback_agent": {"to": "1.0.0"},
    "rollback_orchestration": {"to": "1.0.0"},
    "update_orchestration": {"description": "other"},
    "create_orchestration_version": {
        "config_yaml": "apiVersion: orchestration/v1\npattern: sequential\nsteps: [{id: one, agent: worker}]\n"
    },
    "set_current_orchestration_version": {"semver": "1.0.0"},
    "update_model_credential": {"name": "other"},
    "cancel_run": {"reason": "other"},
    "decide_step": {"outcome": "failed"},
    "decide_approval": {"outcome": "approved"},
    "signal_run": {"name": "payment"},
    "fork_run": {"from_step": "agent"},
    "update_gateway": {"name": "other"},
    "update_schedule": {"name": "other"},
    "backfill_schedule": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z"},
    "update_model_price": {"input_usd_micros_per_million": 1},
}
"""What is sent where something has to be: valid, so that the id alone decides."""
_LISTED = {
    "user_id": "/v1/users",
    "workspace_id": "/v1/workspaces",
    "api_key_id": "/v1/api-keys",
    "agent_id": "/v1/agents",
    "orchestration_id": "/v1/orchestrations",
    "gateway_id": "/v1/gateways",
}
_MADE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "kill_switch_id": ("/v1/kill-switches", {"scope": "run"}),
    "schedule_id": ("/v1/schedules", {"cron": "0 3 * * *", "time_zone": "UTC"}),
    "allowed_host_id": ("/v1/allowed-hosts", {}),
    "policy_id": ("/v1/policies", {"policy_type": "abac", "rules_yaml": _POLICY, "is_enabled": False}),
    "model_credential_id": ("/v1/model-credentials", {"provider": "openai", "secret": "sk-0123456789abcdefghij"}),
    "model_price_id": (
        "/v1/model-prices",
        {"provider": "openai", "input_usd_micros_per_million": 1, "output_usd_micros_per_million": 1},
    ),
}
_NAMED = {"model_price_id": "model_name"}
_FOLLOWING = {"decision_id": "/v1/decisions", "entry_id": "/v1/audit-entries", "approval_id": "/v1/approvals"}
"""What other services write down of what was done."""


async def things_of(town: Town, organization: Organization) -> dict[str, str]:
    """One of everything that an organization has, by the name that paths give it."""
    send, key = town.traffic.send, organization.key
    named = {name for route in await published(town) for name in route.names}
    ids = {"organization_id": organization.id, "semver": "1.0.0", "run_id": await _fork(town, organization)}
    ids["evaluation_id"] = await _evaluation(town, organization)
    ids["promotion_id"] = await _promotion(town, organization)
    for name, path in _LISTED.items():
        ids[name] = str((await send("GET", path, key))["items"][0]["id"])
    await send("POST", "/v1/runs", key, {"orchestration": "approved", "input": {"topic": "rivers"}})
    steps = await send("GET", f"/v1/runs/{ids['run_id']}/steps", key)
    ids["step_id"] = str(steps["items"][0]["id"])
    for name, (path, body) in _MADE.items():
        if name in named:
            ids[name] = str((await send("POST", path, key, _body(name, body, ids)))["id"])
    assignment = {"assignee_type": "user", "assignee_id": ids["user_id"]}
    assigned = await send("POST", f"/v1/policies/{ids['policy_id']}/assignments", key, assignment)
    ids["assignment_id"] = str(assigned["id"])
    for name, path in _FOLLOWING.items():
        ids[name] = await until(lambda path=path: _first(town, key, path), f"something in {path}")  # type: ignore[misc]
    assert not named - ids.keys(), "paths name what has no example here"
    return ids


async def _evaluation(town: Town, organization: Organization) -> str:
    """One of the agent that is then the newest, and so the first in the list."""
    send, key = town.traffic.send, organization.key
    known = (await send("GET", "/v1/agents", key))["items"][0]
    case = "evals: [{name: smoke, input: {topic: rivers}, expect: 'true'}]\n"
    body = {
        "name": f"n {new_id()}",
        "workspace": known["workspace_id"],
        "config_yaml": f"{known['config_yaml']}\n{case}",
    }
    agent = await send("POST", "/v1/agents", key, body)
    made = await send("POST", f"/v1/agents/{agent['id']}/versions/1.0.0/evaluate", key)
    return str(made["id"])


async def _promotion(town: Town, organization: Organization) -> str:
    """One of the newest agent, into a workspace that is gone again: names alone stand for one thing elsewhere."""
    send, key = town.traffic.send, organization.key
    agent = (await send("GET", "/v1/agents", key))["items"][0]
    body = {"name": f"n {new_id()}", "environment_type": "staging", "requires_approval": True}
    place = await send("POST", "/v1/workspaces", key, {**body, "promotion_from": agent["workspace_id"]})
    path, asked = f"/v1/agents/{agent['id']}/promote", {"to_workspace": place["id"]}

    async def requested() -> Any:
        reply = await town.ask("POST", path, key, asked)
        return reply.json["id"] if reply.status == 202 else None

    promotion_id = await until(requested, "a promotion is asked for")
    await town.ask("DELETE", f"/v1/workspaces/{place['id']}", key)

    async def gone() -> bool:
        return bool((await town.ask("POST", path, key, asked)).status == 404)

    await until(gone, "execution knows that the workspace is gone")
    return str(promotion_id)


async def _fork(town: Town, organization: Organization) -> str:
    """A run that has an original to be compared with."""
    original = (await town.run(organization))["id"]
    fork = await town.traffic.send("POST", f"/v1/runs/{original}/fork", organization.key, {"from_step": "agent"})

    async def over() -> bool:
        return bool((await town.ask("GET", f"/v1/runs/{fork['id']}", organization.key)).json["status"] == "completed")

    await until(over, "the fork's end")
    return str(fork["id"])


def _body(name: str, body: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    if name == "allowed_host_id":
        return {"host": f"h{new_id()}.example.com"}
    if name == "kill_switch_id":
        return {**body, "target_id": ids["run_id"]}
    if name == "schedule_id":
        body = {**body, "agent": ids["agent_id"], "input": {"topic": "rivers"}}
    return {**body, _NAMED.get(name, "name"): f"n {new_id()}"}


async def _first(town: Town, key: str, path: str) -> str:
    items = (await town.ask("GET", path, key)).json["items"]
    return str(items[0]["id"]) if items else ""


def things_of_nobody(routes: list[Route]) -> dict[str, str]:
    """Names of the same shape that nothing has."""
    return {name: "9.9.9" if name == "semver" else str(new_id()) for route in routes for name in route.names}
