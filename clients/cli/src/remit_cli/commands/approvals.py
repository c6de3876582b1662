"""`remit approvals`: what people are asked before a run goes on or a version is promoted, and their answers."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from remit_cli.options import Json, Limit, ask
from remit_cli.show import console, print_fields, print_json, print_table

app = typer.Typer(help="What runs and promotions ask people for, and what they say.", no_args_is_help=True)
COLUMNS = ("id", "status", "rule_name", "action", "run_id", "requester_id", "expires_at")
FIELDS = (
    "id", "status", "action", "resource_type", "resource_id", "run_id", "step_id", "promotion_id", "requester_id",
    "approvers", "rule_name", "asked_because", "context", "digest", "expires_at", "approver_id", "decided_at", "reason",
)  # fmt: skip
Request = Annotated[str, typer.Argument(metavar="ID", help="The request; `remit approvals list` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept in the audit log, and what is rejected says it.")]


@app.command("list")
def show_all(
    status: Annotated[
        str | None, typer.Option(help="Only those: pending, approved, rejected, expired, withdrawn.")
    ] = None,
    limit: Limit = 20,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """List what you may decide or have asked (some roles see all), newest first; what is decided, too."""
    items = ask(lambda edge: edge.items("/v1/approvals", limit=limit, status=status))
    if as_json:
        print_json({"items": items})
    else:
        print_table(items, COLUMNS, empty="nobody is asked anything")


@app.command("show")
def show_one(approval_id: Request, as_json: Json = False) -> None:  # noqa: FBT002
    """Show exactly what is asked."""
    _show(ask(lambda edge: edge.get(f"/v1/approvals/{approval_id}")), as_json=as_json)


@app.command("approve", epilog="Example: remit approvals approve 0198… --reason 'the invoice is right'")
def approve(approval_id: Request, reason: Reason = "", as_json: Json = False) -> None:  # noqa: FBT002
    """Let it go on; somebody other than the one who asks has to say so."""
    _show(_decide(approval_id, "approved", reason), as_json=as_json)


@app.command("reject")
def reject(approval_id: Request, reason: Reason = "", as_json: Json = False) -> None:  # noqa: FBT002
    """Do not let it go on."""
    _show(_decide(approval_id, "rejected", reason), as_json=as_json)


def _decide(approval_id: str, outcome: str, reason: str) -> dict[str, Any]:
    async def read_and_decide(edge: Any) -> dict[str, Any]:
        seen = await edge.get(f"/v1/approvals/{approval_id}")
        body = {"outcome": outcome, "reason": reason, "digest": seen["digest"]}
        decided: dict[str, Any] = await edge.post(f"/v1/approvals/{approval_id}/decide", body)
        return decided

    return ask(read_and_decide)


def _show(request: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(request)
        return
    print_fields(request, [name for name in FIELDS if request.get(name) not in (None, "", [])])
    if request["status"] == "pending":
        console().print(f"[dim]remit approvals approve|reject {escape(request['id'])}[/]")
