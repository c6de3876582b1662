import json
from pathlib import Path

import pytest
from clients.cli.tests.conftest import Terminal

from remit_cli.log_view import show_logs
from remit_cli.progress import Progress
from remit_local.presence import Presence


def child(state: str, trouble: str = "", restarts: int = 0) -> dict[str, object]:
    return {"state": state, "pid": 7, "restarts": restarts, "since": 0.0, "trouble": trouble}


def test_status_of_nothing_says_how_to_start(remit: Terminal, tmp_path: Path) -> None:
    result = remit("status", "--data", str(tmp_path))
    assert result.exit_code == 1
    assert "remit up" in result.stdout
    assert json.loads(remit("status", "--json", "--data", str(tmp_path)).stdout)["state"] == "stopped"


def test_status_tells_of_each_process_and_up_again_starts_nothing(remit: Terminal, tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    children = {"postgres": child("ready"), "remit": child("crash_loop", "ended with 1", restarts=5)}
    presence.write("crash_loop", children, {"edge": "http://127.0.0.1:8080", "processes": True})
    try:
        result = remit("status", "--data", str(tmp_path))
        assert result.exit_code == 1
        assert "restarted 5 times" in result.stdout
        assert "ended with 1" in result.stdout
        presence.write("ready", {"postgres": child("ready")}, {"edge": "http://127.0.0.1:8080"})
        assert remit("status", "--data", str(tmp_path)).exit_code == 0
        again = remit("up", "--data", str(tmp_path))
        assert again.exit_code == 0
        assert "ready at http://127.0.0.1:8080" in again.stdout
    finally:
        presence.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_down_where_nothing_runs_is_no_error(remit: Terminal, tmp_path: Path) -> None:
    assert "not running" in remit("down", "--data", str(tmp_path)).stdout


def test_doctor_names_what_others_can_read(remit: Terminal, tmp_path: Path) -> None:
    secret = tmp_path / "demo.json"
    secret.write_text("{}")
    secret.chmod(0o644)
    result = remit("doctor", "--json", "--data", str(tmp_path))
    found = {each["what"]: each for each in json.loads(result.stdout)["findings"]}
    assert result.exit_code == 1
    assert "demo.json" in found["secrets"]["said"]
    assert found["PostgreSQL"]["fine"]
    secret.chmod(0o600)
    assert remit("doctor", "--data", str(tmp_path)).exit_code == 0


def test_logs_are_cut_by_process_and_by_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], remit: Terminal
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "postgres.log").write_text("one\ntwo\nthree\n")
    (logs / "remit.log").write_text("loop=audit.sink started\nloop=execution.reaper started\n")
    show_logs(logs, "postgres", lines=2, follow=False)
    assert "one" not in (shown := capsys.readouterr().out)
    assert "three" in shown
    show_logs(logs, "audit", lines=10, follow=False)
    assert "reaper" not in (shown := capsys.readouterr().out)
    assert "audit.sink" in shown
    assert "postgres, remit" in str(remit.refused("logs", "nothing", "--data", str(tmp_path)))


def test_progress_tells_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    for state in ("waiting", "starting", "ready", "ready", "restarting", "ready"):
        progress.show({"postgres": child(state, "ended with 1" if state == "restarting" else "")})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines] == [
        "ready  PostgreSQL",
        "restarting  PostgreSQL: ended with 1",
        "ready  PostgreSQL",
    ]
