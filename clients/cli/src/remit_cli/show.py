"""How the CLI prints: a table or a few lines for a person, JSON for a program."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

MICROS = 1_000_000
NARROW = 120
UNBROKEN = frozenset({"id", "status", "timestamp", "queued_at", "updated_at", "event_type"})


def console() -> Console:
    """Return where results are printed; wide enough for ids where there is no terminal."""
    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = max(out.width, NARROW)
    return out


def print_json(value: Any) -> None:
    """Print JSON, indented, with a line break."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """Print rows by column; `empty` is said when there is none."""
    shown = list(rows)
    if not shown:
        console().print(f"[dim]{empty}[/]")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        heading = column.removesuffix("_usd_micros").replace("_", " ")
        table.add_column(heading, overflow="fold", no_wrap=column in UNBROKEN)
    for row in shown:
        table.add_row(*(escape(text(column, row.get(column))) for column in columns))
    console().print(table)


def print_fields(row: Mapping[str, Any], names: Sequence[str]) -> None:
    """Print some fields of one thing, one a line."""
    width = max(len(name) for name in names)
    for name in names:
        label = name.removesuffix("_usd_micros").replace("_", " ")
        console().print(f"[dim]{label:{width}}[/]  {escape(text(name, row.get(name)))}")


def text(name: str, value: Any) -> str:
    """Return a value for a person: money in dollars, times without fractions, nothing as a dash."""
    if value is None or value == "":
        return "-"
    if name.endswith("_usd_micros"):
        return dollars(value)
    if (name.endswith("_at") or name == "timestamp") and isinstance(value, str):
        return value[:19].replace("T", " ")
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    return str(value)


def dollars(micros: int) -> str:
    """Return micro-dollars as dollars; small amounts keep their digits."""
    return f"${micros / MICROS:.2f}" if micros and micros % 10_000 == 0 else f"${micros / MICROS:.6f}"
