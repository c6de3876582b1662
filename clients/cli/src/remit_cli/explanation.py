"""What happened in a run, from the caller and the rule to the audit entries, as a person reads it."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from remit_cli.show import console, dollars
from remit_cli.watch import hindrance_text, step_line, step_name

ENTRIES_SHOWN = 12
_OUTPUT_CHARACTERS = 600


def print_explanation(found: Mapping[str, Any]) -> None:
    """Print the answer of `GET /v1/runs/{id}/explain`."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in _rows(found):
        grid.add_row(name, value)
    console().print(grid)


def _rows(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    run = found.get("run") or {}
    rows = [
        ("run", f"{run.get('id')}  [bold]{escape(str(run.get('status')))}[/]{_seconds(run)}"),
        ("caller", _caller(found.get("caller") or {}, found.get("trigger") or {})),
        ("decision", _decision(found.get("decision") or {})),
        ("version", _version(found.get("version") or {})),
        ("steps", _steps(found.get("steps") or ())),
        ("tokens", f"{run.get('input_tokens', 0)} in, {run.get('output_tokens', 0)} out"),
        ("cost", _costs(run, found.get("costs"))),
        *_children(found.get("children") or ()),
        ("audit", _entries(found.get("audit_entries"))),
        ("trace", str(found.get("trace_id") or "-")),
    ]
    if found.get("approvals"):
        rows.insert(3, ("approvals", "\n".join(_approval(asked) for asked in found["approvals"])))
    if run.get("output") is not None:
        rows.insert(1, ("output", escape(_short(run["output"]))))
    if run.get("hindrance"):
        rows.insert(1, ("waits for", f"[yellow]{escape(hindrance_text(run['hindrance']))}[/]"))
    if run.get("error_code"):
        rows.insert(1, ("error", f"[red]{escape(run['error_code'])}[/] {escape(run.get('error_message') or '')}"))
    if found.get("pending"):
        rows.append(("pending", ", ".join(found["pending"])))
    return rows


def _approval(asked: Mapping[str, Any]) -> str:
    by = f" by {asked['approver_id']}" if asked.get("approver_id") else ""
    said = f": {asked['reason']}" if asked.get("reason") else ""
    return escape(f"{asked['rule_name']} {asked['status']}{by}{said}")


def _seconds(run: Mapping[str, Any]) -> str:
    took = run.get("execution_time_ms")
    return f" in {took / 1000:.1f} s" if took is not None else ""


def _caller(caller: Mapping[str, Any], trigger: Mapping[str, Any]) -> str:
    roles = ", ".join(caller.get("roles") or ())
    said = f"{caller.get('kind', '')} {caller.get('id', '')}".strip() or "-"
    return escape(f"{said}{f' as {roles}' if roles else ''}, by {trigger.get('type', '-')}")


def _decision(decision: Mapping[str, Any]) -> str:
    effect = str(decision.get("effect", "-"))
    colour = "green" if effect == "allow" else "red"
    rule = decision.get("rule_name") or decision.get("rule") or "-"
    policy = decision.get("policy_id") or decision.get("policy") or "the system role matrix"
    reason = f": {decision['reason']}" if decision.get("reason") else ""
    return (
        f"[{colour}]{escape(effect)}[/] by rule [bold]{escape(str(rule))}[/] of {escape(str(policy))}{escape(reason)}"
    )


def _version(version: Mapping[str, Any]) -> str:
    pinned = f"{version.get('semver', '-')}  [dim]{escape(str(version.get('digest', '')))}[/]"
    agents = version.get("agents")
    if not agents:
        return pinned
    named = agents.items() if isinstance(agents, dict) else enumerate(agents, 1)
    lines = (f"\n{alias}: {escape(_pin(pin))}" for alias, pin in named)
    return pinned + "".join(lines)


def _pin(pin: Any) -> str:
    if not isinstance(pin, dict):
        return str(pin)
    digest = str(pin.get("digest") or pin.get("config_digest") or "")
    name = pin.get("name") or pin.get("agent_id") or pin.get("orchestration_id") or pin.get("id") or ""
    return f"{name} {pin.get('semver') or pin.get('version') or ''}  {digest}".strip()


def _steps(steps: Sequence[Mapping[str, Any]]) -> Any:
    if not steps:
        return "-"
    tree = Tree("", hide_root=True)
    for step in steps:
        took = f"{step['execution_time_ms'] / 1000:.1f} s" if step.get("execution_time_ms") is not None else ""
        asked = f"decide about {step['id']}" if step["status"] == "needs_decision" else ""
        child = f"run {step['child_run_id']}" if step.get("child_run_id") else ""
        note = "  ".join(part for part in (step.get("model_name"), child, took, asked) if part)
        branch = tree.add(
            step_line(
                step_name(step["node"], step.get("iteration", 0)),
                step["status"],
                tokens=step["input_tokens"] + step["output_tokens"],
                cost_usd_micros=step["cost_usd_micros"],
                attempt=step["attempt"],
                error=step.get("error_code") or "",
                note=note,
            )
        )
        if step.get("output") is not None:
            branch.add(f"[dim]{escape(_short(step['output']))}[/]")
    return tree


def _children(children: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What the runs that its steps are have come to, with what their own steps have used."""
    lines = [
        f"{child['id']}  {child['status']}  {child['input_tokens'] + child['output_tokens']} tokens"
        f"  {dollars(child['cost_usd_micros'])}"
        for child in children
    ]
    return [("children", escape("\n".join(lines)))] if lines else []


def _costs(run: Mapping[str, Any], costs: Sequence[Mapping[str, Any]] | None) -> str:
    total = dollars(run.get("cost_usd_micros", 0))
    lines = "".join(
        f"\n[dim]{escape(str(line.get('provider', '')))}/{escape(str(line.get('model_name', '')))}"
        f" {dollars(line.get('cost_usd_micros', 0))}[/]"
        for line in costs or ()
        if line.get("model_name")
    )
    return total + lines


def _entries(entries: Sequence[Mapping[str, Any]] | None) -> str:
    if entries is None:
        return "not there yet"
    ordered = sorted(entries, key=lambda entry: str(entry["timestamp"]))
    kept = [f"{entry['timestamp'][11:23]}  {entry['event_type']}" for entry in ordered]
    more = [f"and {len(kept) - ENTRIES_SHOWN} more"] if len(kept) > ENTRIES_SHOWN else []
    return escape("\n".join([f"{len(kept)} entries", *kept[:ENTRIES_SHOWN], *more]))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= _OUTPUT_CHARACTERS else text[:_OUTPUT_CHARACTERS] + " …"
