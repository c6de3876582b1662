"""Order, restarts, crash loops, logs, one supervisor per folder, and nothing left behind after kill -9."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from remit_local.children import Child, ChildState, program
from remit_local.environment import whole_environment
from remit_local.keeper import RestartRules
from remit_local.presence import AlreadyRunningError, Presence, status, stop_running
from remit_local.process import ServerError, is_alive, wait_until
from remit_local.supervisor import Supervisor

pytestmark = pytest.mark.anyio
QUICK = RestartRules(first_pause_seconds=0.01, longest_pause_seconds=0.05, crashes=3, crash_loop_pause_seconds=60)


def python(
    name: str, source: str, folder: Path, *, after: tuple[str, ...] = (), wait: bool = True, once: bool = False
) -> Child:
    """A child that runs Python source; it is ready when it has made the file named after it."""

    async def ready() -> bool:
        return (folder / name).exists()

    argv = (sys.executable, "-u", "-c", source)
    env = whole_environment({"HERE": str(folder)})
    return program(name, argv, env, cwd=folder, ready=ready if wait else None, after=after, once=once)


SERVE = """
import os, pathlib, time
here = pathlib.Path(os.environ["HERE"])
print("order", sorted(path.name for path in here.iterdir() if path.is_file() and path.name in "abc"))
(here / "{name}").touch()
time.sleep(600)
"""


async def until(check: object, seconds: float = 20) -> None:
    assert callable(check)
    await asyncio.to_thread(wait_until, check, seconds, "expected state")


async def test_children_start_in_order_of_readiness_and_stop_in_reverse(tmp_path: Path) -> None:
    stopped: list[str] = []
    children = [
        python("a", SERVE.format(name="a"), tmp_path),
        python("b", SERVE.format(name="b"), tmp_path, after=("a",)),
        python("c", SERVE.format(name="c"), tmp_path, after=("a", "b")),
    ]
    supervisor = Supervisor(tmp_path / "data", children)
    await supervisor.start()
    told = status(tmp_path / "data")
    assert told is not None
    assert told.state == "ready"
    assert {child["state"] for child in told.children.values()} == {"ready"}
    pids = [supervisor[name].pid for name in "abc"]

    async def watch(name: str) -> None:
        await supervisor[name].ended.wait()
        stopped.append(name)

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(watch(name))
        await supervisor.stop()
    assert stopped == ["c", "b", "a"]
    assert "order ['a', 'b']" in (tmp_path / "data/logs/c.log").read_text()
    assert not any(is_alive(pid) for pid in pids if pid)
    assert status(tmp_path / "data") is None


async def test_killed_child_comes_back_under_a_new_pid(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "data", [python("a", SERVE.format(name="a"), tmp_path)], rules=QUICK)
    await supervisor.start()
    first = supervisor["a"].pid
    assert first
    os.kill(first, signal.SIGKILL)
    await until(lambda: supervisor["a"].restarts == 1 and supervisor["a"].state == ChildState.READY)
    assert supervisor["a"].pid not in (None, first)
    await supervisor.stop()


async def test_child_that_keeps_ending_is_named_a_crash_loop_with_its_last_words(tmp_path: Path) -> None:
    source = "print('no disk left'); raise SystemExit(3)"
    supervisor = Supervisor(tmp_path / "data", [python("a", source, tmp_path)], rules=QUICK)
    with pytest.raises(ServerError, match=r"(?s)a does not start: ended with 3.*no disk left"):
        await supervisor.start()
    told = status(tmp_path / "data")
    assert told is not None
    assert told.state == "crash_loop"
    assert told.children["a"]["restarts"] == QUICK.crashes
    await supervisor.stop()


async def test_child_that_runs_once_lets_its_successor_start_when_it_ended_well(tmp_path: Path) -> None:
    migrate = python("a", "import os; open(os.environ['HERE'] + '/a', 'w')", tmp_path, wait=False, once=True)
    supervisor = Supervisor(tmp_path / "data", [migrate, python("b", SERVE.format(name="b"), tmp_path, after=("a",))])
    await supervisor.start()
    assert supervisor["a"].state is ChildState.DONE
    assert "order ['a']" in (tmp_path / "data/logs/b.log").read_text()
    await supervisor.stop()


async def test_stubborn_child_is_killed_after_its_time(tmp_path: Path) -> None:
    source = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVE.format(name="a")
    argv = (sys.executable, "-c", source)
    child = python("a", source, tmp_path)
    stubborn = program(
        "a", argv, whole_environment({"HERE": str(tmp_path)}), cwd=tmp_path, ready=child.ready, stop_seconds=0.2
    )
    supervisor = Supervisor(tmp_path / "data", [stubborn])
    await supervisor.start()
    pid = supervisor["a"].pid
    assert pid
    await supervisor.stop()
    assert not is_alive(pid)


async def test_listener_hears_every_line_with_its_child(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    source = "import sys; print('one'); sys.stdout.write('two')"
    child = python("a", source, tmp_path, wait=False, once=True)
    supervisor = Supervisor(tmp_path / "data", [child], listener=lambda name, line: heard.append((name, line)))
    await supervisor.start()
    await supervisor.stop()
    assert heard == [("a", "one"), ("a", "two")]


async def test_second_supervisor_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    first = Presence(tmp_path)
    with pytest.raises(AlreadyRunningError):
        Supervisor(tmp_path, [])
    first.release()
    assert status(tmp_path) is None


def test_children_may_only_come_after_earlier_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="before"):
        Supervisor(tmp_path, [python("a", "", tmp_path, after=("b",))])


SUPERVISE = """
import asyncio, sys
from pathlib import Path
from remit_local.children import program
from remit_local.environment import whole_environment
from remit_local.supervisor import Supervisor
here = Path(sys.argv[1])
source = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w'); time.sleep(600)"
def stubborn(name):
    async def ready():
        return (here / name).exists()
    argv = (sys.executable, "-c", source, str(here / name))
    return program(name, argv, whole_environment({}), cwd=here, ready=ready, stop_seconds=300)
asyncio.run(Supervisor(here, [stubborn("a"), stubborn("b")]).run())
"""


async def test_run_calls_back_when_ready_publishes_details_and_ends_when_asked(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "data", [python("a", SERVE.format(name="a"), tmp_path)])
    told: list[dict[str, object]] = []

    async def when_ready() -> None:
        supervisor.tell(edge="http://127.0.0.1:1")
        running = status(tmp_path / "data")
        assert running is not None
        told.append({"state": running.state, **running.details})
        supervisor.ask_to_stop()

    await supervisor.run(when_ready)
    assert told == [{"state": "ready", "edge": "http://127.0.0.1:1"}]
    assert supervisor["a"].state is ChildState.STOPPED


async def test_failure_after_the_start_ends_the_children_and_is_raised(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "data", [python("a", SERVE.format(name="a"), tmp_path)])
    pids: list[int | None] = []

    async def when_ready() -> None:
        pids.append(supervisor["a"].pid)
        raise LookupError("no demo")

    with pytest.raises(LookupError, match="no demo"):
        await supervisor.run(when_ready)
    assert pids[0]
    assert not is_alive(pids[0])


async def test_asked_to_stop_while_starting_it_starts_no_more(tmp_path: Path) -> None:
    never = python("a", "import time; time.sleep(600)", tmp_path)
    supervisor = Supervisor(tmp_path / "data", [never, python("b", SERVE.format(name="b"), tmp_path, after=("a",))])
    running = asyncio.create_task(supervisor.run())
    await until(lambda: supervisor["a"].pid is not None)
    supervisor.ask_to_stop()
    await running
    assert supervisor["b"].restarts == 0
    assert not (tmp_path / "data/logs/b.log").exists()


def supervise(folder: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    process = subprocess.Popen([sys.executable, "-c", SUPERVISE, str(folder)])
    wait_until(lambda: (told := status(folder)) is not None and told.state == "ready", 30, "supervisor")
    told = status(folder)
    assert told is not None
    return process, [child["pid"] for child in told.children.values()]


def test_kill_9_of_the_supervisor_leaves_no_process_and_frees_the_folder(tmp_path: Path) -> None:
    process, children = supervise(tmp_path)
    process.kill()
    process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in children), 10, "end of the children")
    assert status(tmp_path) is None


def test_second_interrupt_kills_children_that_take_their_time(tmp_path: Path) -> None:
    process, children = supervise(tmp_path)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: '"state": "stopping"' in (tmp_path / "state.json").read_text(), 10, "orderly stop")
    assert all(is_alive(pid) for pid in children)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert not any(is_alive(pid) for pid in children)


def test_stop_running_ends_the_supervisor_by_force_when_it_takes_longer(tmp_path: Path) -> None:
    process, children = supervise(tmp_path)
    begun = time.monotonic()
    ended: list[bool] = []
    waiter = threading.Thread(target=lambda: ended.append(stop_running(tmp_path, timeout_seconds=1)))
    waiter.start()
    process.wait(30)
    waiter.join()
    assert ended == [True]
    assert time.monotonic() - begun >= 1
    wait_until(lambda: not any(is_alive(pid) for pid in children), 10, "end of the children")
    assert not stop_running(tmp_path)


def test_state_file_is_private_and_whole(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    presence.write("ready", {}, {"edge": "http://127.0.0.1:1"})
    file = tmp_path / "state.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["details"] == {"edge": "http://127.0.0.1:1"}
    presence.release()


def test_what_a_killed_supervisor_said_is_not_what_its_successor_says(tmp_path: Path) -> None:
    """`up` waits for `ready`: from the old one it would hear that at once."""
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    ready = {"pid": killed.pid, "state": "ready", "children": {}, "details": {}}
    (tmp_path / "state.json").write_text(json.dumps(ready))
    presence = Presence(tmp_path)
    assert not (tmp_path / "state.json").exists()
    (tmp_path / "state.json").write_text(json.dumps(ready))  # as somebody sees it who looks between lock and removal
    found = status(tmp_path)
    assert found is not None
    assert found.state == "starting"
    presence.release()
