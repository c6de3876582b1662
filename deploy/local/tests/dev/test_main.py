from __future__ import annotations

import re
import subprocess
import sys

import pytest

from remit_local.dev.__main__ import build_parser, main

COMMANDS = {"check", "test", "bench", "chaos", "schemas", "openapi", "lock", "measure", "format"}


def test_it_lists_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = set(re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE))
    assert listed == COMMANDS


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([command, "--help"])
    assert ended.value.code == 0
    assert f"./dev {command}" in capsys.readouterr().out


def test_a_benchmark_is_a_file_or_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 0
    assert {"facts", "spine"} <= set(capsys.readouterr().out.split())


def test_an_unknown_benchmark_lists_the_known_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "no-such-benchmark"]) == 2
    assert capsys.readouterr().out


def test_what_follows_two_dashes_reaches_pytest() -> None:
    argv = [sys.executable, "-m", "remit_local.dev", "test", "-n", "0", "deploy/local/tests/dev/test_golden.py", "--"]
    done = subprocess.run([*argv, "-k", "keys", "-q"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 3 deselected" in done.stdout


def test_check_of_a_chosen_rule_runs_only_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "remit_local.dev", "check", "schemas"], capture_output=True, text=True, check=False
    )
    assert "schemas" in done.stdout
    assert "imports" not in done.stdout
