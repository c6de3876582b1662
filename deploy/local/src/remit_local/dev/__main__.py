"""The developers' tool: what it can do, and which part of it does that."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from remit_local.dev.commands import program, show
from remit_local.dev.workspace import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence


def _check(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from remit_local.dev.check import check

    return check(chosen.names)


def _say(line: str) -> None:
    sys.stderr.write(f"dev: {line}\n")


def _install_servers() -> None:
    """Install what tests and benchmarks run on; where that can't be, whoever needs it says so once more."""
    from remit_local.platform.keep import install_missing
    from remit_local.process import ServerError

    try:
        install_missing(_say, with_model=True)
    except ServerError as error:
        _say(str(error))


def _test(chosen: argparse.Namespace, rest: list[str]) -> int:
    _install_servers()
    return show([program("pytest"), "-n", str(chosen.workers), "-m", "not chaos", *chosen.paths, *rest])


def _bench(chosen: argparse.Namespace, rest: list[str]) -> int:
    # A benchmark is a file, or a folder with a __main__ where it is called like one of our packages or has parts.
    places = [*(ROOT / "bench").glob("*.py"), *(path.parent for path in (ROOT / "bench").glob("*/__main__.py"))]
    scripts = {path.stem: path for path in sorted(places)}
    if chosen.name not in scripts:
        sys.stdout.write("".join(f"{name}\n" for name in scripts) or "no benchmark yet\n")
        return 0 if chosen.name is None else 2
    _install_servers()
    return show([sys.executable, str(scripts[chosen.name]), *rest])


def _chaos(chosen: argparse.Namespace, rest: list[str]) -> int:
    _install_servers()
    numbers = [f"--{name}={getattr(chosen, name)}" for name in ("faults", "seed", "runs")]
    return show([program("pytest"), "-q", "-s", "-n0", "-m", "chaos", "tests/chaos", *numbers, *rest])


def _schemas(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from remit_local.dev.golden import definition_schemas, keep, message_schemas, orphans

    wanted = message_schemas()
    extra = orphans(wanted)
    return keep(wanted | definition_schemas(), check=chosen.check, again="./dev schemas", extra=extra)


def _openapi(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from remit_local.dev.golden import keep, openapi_documents

    return keep(openapi_documents(), check=chosen.check, again="./dev openapi", extra=[])


def _lock(chosen: argparse.Namespace, _rest: list[str]) -> int:
    from remit_local.dev.locks import lock

    return lock(upgrade=chosen.upgrade)


def _measure(_chosen: argparse.Namespace, _rest: list[str]) -> int:
    from remit_local.dev.measures import measure

    sys.stdout.write("".join(f"{line}\n" for line in measure()))
    return 0


def _format(_chosen: argparse.Namespace, rest: list[str]) -> int:
    ruff = program("ruff")
    return show([ruff, "check", "--fix", *rest]) or show([ruff, "format", *rest])


def build_parser() -> argparse.ArgumentParser:
    """Describe all subcommands; what follows `--` is handed on to the program behind one."""
    parser = argparse.ArgumentParser(prog="./dev", description="The developers' tool of Remit.")
    commands = parser.add_subparsers(title="commands", metavar="")

    def add(name: str, run: object, summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run)
        return command

    add("check", _check, "every rule a machine enforces").add_argument("names", nargs="*", help="only these")
    test = add("test", _test, "the tests [-- arguments of pytest]")
    test.add_argument("paths", nargs="*", help="only these files or folders")
    test.add_argument("-n", dest="workers", type=int, default=2, help="processes (2)")
    add("bench", _bench, "run a benchmark [-- its arguments]; without a name: list them").add_argument(
        "name", nargs="?"
    )
    chaos = add("chaos", _chaos, "kill, stop and cut off every kind of process at work [-- arguments of pytest]")
    chaos.add_argument("--faults", type=int, default=40)
    chaos.add_argument("--runs", type=int, default=500)
    chaos.add_argument("--seed", type=int, default=1)
    schemas = "libs/contracts/schemas and samples/schemas"
    for name, run, what in (("schemas", _schemas, schemas), ("openapi", _openapi, "openapi.json")):
        golden = add(name, run, f"write {what} from the code")
        golden.add_argument("--check", action="store_true", help="write nothing, fail if something would change")
    lock = add("lock", _lock, "resolve the dependencies and write deploy/locks")
    lock.add_argument("--upgrade", action="store_true", help="to the newest versions allowed")
    add("measure", _measure, "lengths of files and functions, files read per mutating route")
    add("format", _format, "repair what ruff can repair, then format")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one subcommand and give its exit code; without one, list them."""
    own, rest = list(arguments), list[str]()
    if "--" in own:
        at = own.index("--")
        own, rest = own[:at], own[at + 1 :]
    parser = build_parser()
    chosen = parser.parse_args(own)
    if not hasattr(chosen, "run"):
        parser.print_help()
        return 0
    code: int = chosen.run(chosen, rest)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
