"""`remit keys` and `remit credentials`: API keys of this Remit, and keys of model providers it uses."""

import os
from typing import Annotated, Any

import typer

from remit_cli.failures import CliError
from remit_cli.options import Json, Limit, ask
from remit_cli.show import console, print_fields, print_json, print_table

app = typer.Typer(help="API keys: make, rotate, revoke.", no_args_is_help=True)
PROVIDERS = ("openai", "anthropic", "openai-compatible", "mcp", "http")
credentials = typer.Typer(help="Keys of model providers, stored sealed.", no_args_is_help=True)
COLUMNS = ("name", "role", "key_prefix", "is_active", "id", "last_used_at", "expires_at")
Key = Annotated[str, typer.Argument(metavar="ID", help="The key's id.")]


@app.command("list")
def show_all(limit: Limit = 50, as_json: Json = False) -> None:  # noqa: FBT002
    """List keys, without their secrets."""
    items = ask(lambda edge: edge.items("/v1/api-keys", limit=limit))
    if as_json:
        print_json({"items": items})
    else:
        print_table(items, COLUMNS, empty="no keys")


@app.command("create", epilog="Example: remit keys create ci --role developer --scope run:create --scope run:read")
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: Annotated[str | None, typer.Option(help="A key of the organization, acting as this role.")] = None,
    scopes: Annotated[list[str] | None, typer.Option("--scope", help="Narrow it to these permissions.")] = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Make a key, and show it this once."""
    body = {"name": name, "role": role, "scopes": scopes or []}
    _show(ask(lambda edge: edge.post("/v1/api-keys", body)), as_json=as_json)


@app.command("rotate")
def rotate(
    key_id: Key,
    overlap: Annotated[int, typer.Option(help="Seconds that the old key works on.")] = 86_400,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Make a key's successor, and show it this once."""
    body = {"overlap_seconds": overlap}
    _show(ask(lambda edge: edge.post(f"/v1/api-keys/{key_id}/rotate", body)), as_json=as_json)


@app.command("revoke")
def revoke(key_id: Key, as_json: Json = False) -> None:  # noqa: FBT002
    """End a key, everywhere within two seconds."""
    _show(ask(lambda edge: edge.post(f"/v1/api-keys/{key_id}/revoke")), as_json=as_json)


@credentials.command("add", epilog="Example: remit credentials add mine --provider openai --secret-env OPENAI_API_KEY")
def add_credential(
    name: Annotated[str, typer.Argument(help="What agents call it.")],
    provider: Annotated[
        str,
        typer.Option(help=f"{', '.join(PROVIDERS)} (mcp: a server of tools, http: a service)."),
    ],
    secret_env: Annotated[str, typer.Option(help="The environment variable that holds the provider's key.")],
    base_url: Annotated[str | None, typer.Option(help="Where it answers, if that is not the provider itself.")] = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Store a provider's key; nobody can read it back."""
    secret = os.environ.get(secret_env)
    if not secret:
        raise CliError(f"the environment variable {secret_env} is not set")
    body = {"name": name, "provider": provider, "secret": secret, "base_url": base_url}
    found = ask(lambda edge: edge.post("/v1/model-credentials", body))
    if as_json:
        print_json(found)
    else:
        console().print(f"stored; agents name it as `credential: {name}`", markup=False)


def _show(key: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(key)
        return
    print_fields(key, ("id", "name", "role", "is_active", "expires_at"))
    if key.get("api_key"):
        console().print(f"\n[bold]{key['api_key']}[/]\n[dim]Keep it: nobody can show it again.[/]")
