"""`remit prices`: what models cost, where no public list knows it."""

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer
from rich.markup import escape

from remit_cli.failures import CliError
from remit_cli.options import Json, Limit, ask
from remit_cli.show import console, print_json, print_table

app = typer.Typer(help="What models cost you, beside the public prices.", no_args_is_help=True)
COLUMNS = (
    "id",
    "provider",
    "model_name",
    "input_usd_micros_per_million",
    "output_usd_micros_per_million",
    "valid_from",
)
MICROS = 1_000_000


@app.command("add", epilog="Example: remit prices add openai-compatible 'llama-*' --input-usd 0.15 --output-usd 0.60")
def add(
    provider: Annotated[str, typer.Argument(help="embedded, openai or openai-compatible.")],
    model: Annotated[str, typer.Argument(help="A model's name, or the beginning of names and a star.")],
    input_usd: Annotated[str, typer.Option(help="Dollars for a million tokens asked.")],
    output_usd: Annotated[str, typer.Option(help="Dollars for a million tokens answered.")],
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Say what a model costs from now on."""
    body = {
        "provider": provider,
        "model_name": model,
        "input_usd_micros_per_million": _micros(input_usd),
        "output_usd_micros_per_million": _micros(output_usd),
    }
    made = ask(lambda edge: edge.post("/v1/model-prices", body))
    if as_json:
        print_json(made)
    else:
        console().print(f"price [bold]{made['id']}[/] of {escape(made['provider'])} {escape(made['model_name'])}")


@app.command("list")
def show_all(limit: Limit = 20, as_json: Json = False) -> None:  # noqa: FBT002
    """List your own prices, newest first, in millionths of a dollar for a million tokens."""
    items = ask(lambda edge: edge.items("/v1/model-prices", limit=limit))
    if as_json:
        print_json({"items": items})
    else:
        print_table(items, COLUMNS, empty="no prices of your own: remit prices add …")


def _micros(usd: str) -> int:
    try:
        micros = Decimal(usd) * MICROS
    except InvalidOperation:
        raise CliError(f"{usd}: a price is a number of dollars such as 0.15") from None
    if not micros.is_finite() or micros < 0:
        raise CliError(f"{usd}: a price is a number of dollars such as 0.15")
    return int(micros.to_integral_value())
