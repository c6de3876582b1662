"""Lines of children: cut, kept, rotated, and never a reason to fall over."""

import io
from pathlib import Path

import pytest

from remit_local import logs
from remit_local.logs import ChildLog, Console


def test_chunks_become_lines_and_the_rest_is_kept_until_the_end(tmp_path: Path) -> None:
    heard: list[str] = []
    log = ChildLog(tmp_path / "logs", "api", lambda _name, line: heard.append(line))
    log.feed(b"one\ntw")
    assert heard == ["one"]
    log.feed(b"o\r\nthree")
    log.end()
    assert heard == ["one", "two", "three"]
    log.note("restarted")
    assert log.tail(2) == "three\n-- restarted"


def test_endless_line_is_cut_and_bytes_that_are_no_text_are_shown(tmp_path: Path) -> None:
    heard: list[str] = []
    log = ChildLog(tmp_path, "api", lambda _name, line: heard.append(line))
    log.feed(b"x" * 40_000)
    log.feed(b"\xff\n")
    assert [len(line) for line in heard] == [40_000, 1]
    assert heard[1] == "\N{REPLACEMENT CHARACTER}"


def test_full_file_is_rotated_and_three_old_ones_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FILE_BYTES", 10)
    log = ChildLog(tmp_path, "api")
    for number in range(6):
        log.feed(f"line number {number}\n".encode())
    kept = {path.name: path.read_text().strip()[-1] for path in tmp_path.iterdir()}
    assert kept == {"api.log": "5", "api.log.1": "4", "api.log.2": "3", "api.log.3": "2"}


def test_disk_that_takes_nothing_costs_no_listener_its_line(tmp_path: Path) -> None:
    heard: list[str] = []
    log = ChildLog(tmp_path / "logs", "api", lambda _name, line: heard.append(line))
    (tmp_path / "logs" / "api.log").mkdir()
    log.feed(b"no space\n")
    assert heard == ["no space"]


def test_console_puts_names_in_one_column_and_colours_only_a_terminal() -> None:
    plain = io.StringIO()
    console = Console(["api", "postgres"], plain)
    console("api", "up")
    console("postgres", "up")
    assert plain.getvalue() == "api      | up\npostgres | up\n"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    Console(["api"], terminal)("api", "up")
    assert "\x1b[36mapi |\x1b[0m up" in terminal.getvalue()


def test_console_survives_its_terminal() -> None:
    gone = io.StringIO()
    console = Console(["api"], gone)
    gone.close()
    console("api", "up")
