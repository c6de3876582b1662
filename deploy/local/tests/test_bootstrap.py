"""The first start: what it finds current, what it repairs, whose index and cache it uses."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", PROJECT / "deploy/local/bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of two packages whose environment's Python only tells how it was called."""
    root = tmp_path / "checkout"
    for folder in ("libs/one", "services/two", "clients/three", "deploy/local", "deploy/locks", ".venv/bin"):
        (root / folder).mkdir(parents=True)
    for name in ("libs/one", "services/two"):
        (root / name / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    for name in ("uv", "product", "dev"):
        (root / f"deploy/locks/{name}.txt").write_text(f"{name}==1\n")
    for name in ("remit", "dev", "deploy/local/start.sh", "deploy/local/bootstrap.py"):
        (root / name).write_bytes((PROJECT / name).read_bytes())
        (root / name).chmod(0o755)
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (1_700_000_000, 1_700_000_000))
    python = root / ".venv/bin/python"
    python.write_text('#!/bin/sh\ncase "$1" in -c) exit 1 ;; esac\necho "$@"\n')
    python.chmod(0o755)
    for name, path in (("ROOT", root), ("VENV", root / ".venv"), ("PYTHON", python), ("LOCKS", root / "deploy/locks")):
        monkeypatch.setattr(bootstrap, name, path)
    return root


def start(checkout: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Start a command of the checkout where no real Python can be found, so only the quick way works."""
    tools = checkout / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("dirname", "readlink"):
        if not (tools / name).exists():
            (tools / name).symlink_to(f"/usr/bin/{name}")
    return subprocess.run(
        ["/bin/sh", str(checkout / command[0]), *command[1:]],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_current_before_the_first_installation(bootstrap: ModuleType, checkout: Path) -> None:
    assert not bootstrap.is_current("remit")


def test_stamp_holds_until_a_deciding_file_changes(bootstrap: ModuleType, checkout: Path) -> None:
    bootstrap.write_stamp("remit")
    assert bootstrap.is_current("remit")
    assert not bootstrap.is_current("dev")
    (checkout / "libs/one/pyproject.toml").write_text("changed")
    assert not bootstrap.is_current("remit")


def test_new_package_and_moved_checkout_are_noticed(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap.write_stamp("dev")
    assert bootstrap.is_current("remit")
    (checkout / "clients/three/pyproject.toml").write_text("")
    assert not bootstrap.is_current("dev")
    bootstrap.write_stamp("dev")
    monkeypatch.setattr(bootstrap, "ROOT", checkout / "elsewhere" / "..")
    assert not bootstrap.is_current("dev")


def test_second_start_runs_no_python_of_its_own(bootstrap: ModuleType, checkout: Path) -> None:
    bootstrap.write_stamp("dev")
    for kind, module in (("remit", "remit_cli"), ("dev", "remit_local.dev")):
        outcome = start(checkout, kind, "up", "two words")
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stdout == f"-m {module} up two words\n"


def test_start_with_a_newer_deciding_file_or_without_python_says_what_is_missing(
    bootstrap: ModuleType, checkout: Path
) -> None:
    bootstrap.write_stamp("dev")
    newer = (checkout / ".venv/remit-dev.stamp").stat().st_mtime + 10
    os.utime(checkout / "deploy/locks/dev.txt", (newer, newer))
    outcome = start(checkout, "dev")
    assert outcome.returncode == 1
    assert "Python 3.11" in outcome.stderr
    assert "apt-get install" in outcome.stderr


def test_touched_but_equal_files_install_nothing(bootstrap: ModuleType, checkout: Path) -> None:
    bootstrap.write_stamp("dev")
    newer = (checkout / ".venv/remit-dev.stamp").stat().st_mtime + 10
    os.utime(checkout / "deploy/locks/dev.txt", (newer, newer))
    ran = subprocess.run(
        [sys.executable, "-I", str(checkout / "deploy/local/bootstrap.py"), "dev", "remit_local.dev", "check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("-m remit_local.dev check\n", "")


def test_failed_installation_names_the_command_and_leaves_no_stamp(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "make_environment", lambda: None)
    (checkout / ".venv/bin/python").write_text("#!/bin/sh\nexit 7\n")
    with pytest.raises(bootstrap.SetupError, match=r"failed with 7.*\n.*--require-hashes"):
        bootstrap.install("dev")
    assert not (checkout / ".venv/remit-dev.stamp").exists()


def test_missing_venv_module_is_installed_as_root_by_apt(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    apt = tmp_path / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$DEBIAN_FRONTEND $@" >> {told}\n')
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    bootstrap.repair_venv()
    update, installed = told.read_text().splitlines()
    assert update.startswith("noninteractive update")
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}-venv" in installed
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(bootstrap.SetupError, match=r"sudo apt-get install python3\.\d+-venv"):
        bootstrap.repair_venv()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(bootstrap.SetupError, match=r"python\.org"):
        bootstrap.repair_venv()


def test_pip_settings_reach_the_other_installer(bootstrap: ModuleType, tmp_path: Path) -> None:
    pip = {
        "index-url": "https://mirror.example/simple",
        "extra-index-url": "file:///nowhere https://second.example/simple",
        "find-links": f"{tmp_path} /nowhere",
        "cert": "/etc/cert.pem",
    }
    assert bootstrap.translated(pip) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://second.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": str(tmp_path),
        "SSL_CERT_FILE": "/etc/cert.pem",
    }
    assert bootstrap.translated({}) == {}


def test_cache_that_cannot_be_written_is_replaced(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no-such-folder")
    monkeypatch.delenv("UV_CACHE_DIR", raising=False)
    assert bootstrap.installer_settings()["UV_CACHE_DIR"] == str(bootstrap.VENV / "cache")
    assert bootstrap.pip_cache_option() == ["--no-cache-dir"]
