"""Which service answers which path, and how much a request may bring."""

from __future__ import annotations

from collections.abc import Mapping

MEBIBYTE = 1024 * 1024
REQUEST_LIMIT_BYTES = MEBIBYTE
RUN_LIMIT_BYTES = 5 * MEBIBYTE
"""A run's input may have 4 MB; the rest is room for what surrounds it."""

_SERVICES: Mapping[str, tuple[str, ...]] = {
    "identity": ("organizations", "users", "workspaces", "api-keys", "me", "platform"),
    "billing": ("subscription", "usage", "usage-events", "usage-records"),
    "policy": ("policies", "decisions", "roles", "approvals"),
    "gateway": ("gateways",),
    "execution": (
        "agents",
        "allowed-hosts",
        "orchestrations",
        "runs",
        "schedules",
        "kill-switches",
        "model-credentials",
        "model-prices",
    ),
    "audit": ("audit", "audit-entries"),
}
_BY_SEGMENT = {segment: service for service, segments in _SERVICES.items() for segment in segments}
_PLATFORM = {"subscriptions": "billing", "audit": "audit"}
"""Under /v1/platform/ the next segment says whose it is; what nobody else claims is identity's."""


def service_of(path: str) -> str | None:
    """The service a path under /v1 belongs to; None for a path of nobody."""
    parts = path.split("/", 4)
    if len(parts) < 3 or parts[0] or parts[1] != "v1":
        return None
    if parts[2] == "platform" and len(parts) > 3:
        return _PLATFORM.get(parts[3], "identity")
    return _BY_SEGMENT.get(parts[2])


def limit_of(path: str) -> int:
    """How many bytes a request to this path may have."""
    return RUN_LIMIT_BYTES if path.startswith("/v1/runs") else REQUEST_LIMIT_BYTES


def explained_run(path: str) -> str | None:
    """The id in `/v1/runs/{id}/explain`; None for any other path."""
    parts = path.split("/")
    is_explain = len(parts) == 5 and parts[:3] == ["", "v1", "runs"] and parts[4] == "explain"
    return parts[3] if is_explain else None


def is_emergency(method: str, path: str) -> bool:
    """Whether it is engaging a kill switch: possible also while identity is silent, by keys that are known here."""
    return method == "POST" and path == "/v1/kill-switches"
