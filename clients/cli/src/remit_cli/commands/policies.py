"""`remit policies`: rules, from files."""

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape

from remit_cli.commands.definitions import read_file
from remit_cli.edge import Edge
from remit_cli.options import Json, Limit, ask
from remit_cli.show import console, print_fields, print_json, print_table

app = typer.Typer(help="Rules on who may do what.", no_args_is_help=True)
FIELDS = ("effect", "rule_name", "policy_id", "reason", "obligations", "error", "own_only")
CLAUSES = ("rule_name", "effect", "text", "truth", "error")
COLUMNS = ("name", "policy_type", "priority", "is_enabled", "revision", "id", "updated_at")


@app.command("list")
def show_all(limit: Limit = 50, as_json: Json = False) -> None:  # noqa: FBT002
    """List policies."""
    items = ask(lambda edge: edge.items("/v1/policies", limit=limit))
    if as_json:
        print_json({"items": items})
    else:
        print_table(items, COLUMNS, empty="no policies: the system role matrix decides")


@app.command(
    "simulate", epilog="Example: remit policies simulate agent:execute --role developer --attr risk_level=high"
)
def simulate(  # noqa: PLR0917  (options, each by its name)
    action: Annotated[str, typer.Argument(help="A permission, such as agent:execute.")],
    role: Annotated[list[str], typer.Option(help="A role of whoever would ask; may be repeated.")],
    user: Annotated[str, typer.Option(help="Who would ask.")] = "somebody",
    resource: Annotated[str, typer.Option("--id", help="What it would be about.")] = "something",
    attr: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="What is so of it.")] = None,
    run: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="What is so of the run.")] = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Show what would be decided now, by which rule, and who would have to approve it; nothing is done."""
    question: dict[str, Any] = {
        "principal": {"id": user, "roles": role},
        "action": action,
        "resource": {"kind": action.partition(":")[0], "id": resource, "attr": _named(attr)},
    }
    if run:
        question["run"] = _named(run)
    answer = ask(lambda edge: edge.post("/v1/policies/simulate", question))
    if as_json:
        print_json(answer)
        return
    print_fields(answer, [name for name in FIELDS if answer[name] not in (None, "", [], False)])
    approval = answer["approval"]
    if approval:
        hours = approval["expires_in_seconds"] / 3600
        console().print(f"approval required by {escape(' or '.join(approval['approvers']))}, within {hours:g} hours")
    print_table(answer["clauses"], CLAUSES, empty="no rule is about this")


def _named(pairs: list[str] | None) -> dict[str, Any]:
    """Return `name=value` pairs as a mapping; what is JSON is read as that, anything else is a text."""
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"say NAME=VALUE, not {pair!r}")
        try:
            found[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[name] = value
    return found


@app.command("apply", epilog="Example: remit policies apply rules.yaml --type abac --priority 200")
def apply(
    file: Annotated[Path, typer.Argument(help="A document of rules.")],
    name: Annotated[str | None, typer.Option(help="Its name; without, the file's.")] = None,
    policy_type: Annotated[str, typer.Option("--type", help="rbac, abac or budget.")] = "abac",
    priority: Annotated[int, typer.Option(help="Higher is asked first; the role matrix stands at 0.")] = 100,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Save a document of rules under its name; it holds everywhere within two seconds."""
    wanted = {"rules_yaml": read_file(file), "priority": priority}
    called = name or file.name.partition(".")[0]

    async def do(edge: Edge) -> tuple[str, dict[str, Any]]:
        for row in await edge.items("/v1/policies", limit=10_000):
            if row["name"] != called:
                continue
            if all(row[field] == value for field, value in wanted.items()):
                return "unchanged", row
            return "changed", await edge.patch(f"/v1/policies/{row['id']}", wanted, version=row["version"])
        return "created", await edge.post("/v1/policies", {"name": called, "policy_type": policy_type, **wanted})

    what, row = ask(do)
    if as_json:
        print_json({"policy": row, "changed": what})
    else:
        console().print(f"policy [bold]{called}[/] revision {row['revision']}: {what}")
