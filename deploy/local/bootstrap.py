"""Make the project's virtual environment when it is missing or old, then become the command that was asked for.

Runs on a bare machine: standard library only, nothing of the project imported. `bootstrap.py KIND MODULE [ARGUMENT ..]`
where KIND is `remit` or `dev`; start.sh comes here only when a file that decides what to install has changed.
"""  # noqa: INP001 a script, no package

import ast
import fcntl
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCKS = ROOT / "deploy" / "locks"
LISTS = {"remit": "product.txt", "dev": "dev.txt"}
PACKAGE_FOLDERS = ("libs", "services", "clients", "deploy")


class SetupError(Exception):
    """The environment cannot be made; the text says what to type."""


def main(kind: str, module: str, arguments: list[str]) -> None:
    """Install what is missing and become the command."""
    if not is_current(kind):
        try:
            install(kind)
        except SetupError as error:
            sys.exit(f"{kind}: {error}")
        except KeyboardInterrupt:
            sys.exit(f"\n{kind}: interrupted; start again to go on")
    os.execv(PYTHON, [str(PYTHON), "-m", module, *arguments])  # noqa: S606 the whole purpose


# ------------------------------------------------------------------------------------------ is there anything to do?


def is_current(kind: str) -> bool:
    """Tell whether the environment holds what the checkout asks for; the developers' holds all of the product's."""
    return any(_is_installed(have) for have in dict.fromkeys((kind, "dev")))


def _is_installed(kind: str) -> bool:
    try:
        place, digest = stamp_file(kind).read_text().splitlines()
    except (OSError, ValueError):
        return False
    if place != str(ROOT) or digest != content_digest(kind) or not os.access(PYTHON, os.X_OK):
        return False
    write_stamp(kind)  # only the times of the files have changed
    return True


def stamp_file(kind: str) -> Path:
    """Return the file that says what was installed."""
    return VENV / f"remit-{kind}.stamp"


def inputs(kind: str) -> list[Path]:
    """Return the files that decide what gets installed."""
    return [LOCKS / "uv.txt", LOCKS / LISTS[kind], *(folder / "pyproject.toml" for folder in packages())]


def packages() -> list[Path]:
    """Return the folders of all workspace packages."""
    folders = [folder for group in PACKAGE_FOLDERS for folder in sorted((ROOT / group).iterdir())]
    return [folder for folder in folders if (folder / "pyproject.toml").exists()]


def content_digest(kind: str) -> str:
    """Return a digest of what the checkout asks for."""
    digest = hashlib.sha256()
    for path in inputs(kind):
        digest.update(bytes(path) + path.read_bytes())
    return digest.hexdigest()


def write_stamp(kind: str) -> None:
    """Remember where and what was installed."""
    beside = stamp_file(kind).with_suffix(f".{os.getpid()}")
    beside.write_text(f"{ROOT}\n{content_digest(kind)}\n")
    beside.replace(stamp_file(kind))


# ------------------------------------------------------------------------------------------------------- installation


def install(kind: str) -> None:
    """Make the environment and fill it; two at once take turns, and the second finds nothing to do."""
    (ROOT / ".remit").mkdir(mode=0o700, exist_ok=True)
    with (ROOT / ".remit" / "install.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(kind, "another start is installing; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current(kind):
            fill(kind)
            write_stamp(kind)
            say(kind, "installed")


def fill(kind: str) -> None:
    """Make the environment, then install the pinned libraries and the project into it."""
    say(kind, "1/3 the virtual environment .venv")
    make_environment()
    settings = installer_settings()
    say(kind, f"2/3 the libraries of deploy/locks/{LISTS[kind]}; the first time this takes a minute")
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, *pip_cache_option(), "--require-hashes", "-r", str(LOCKS / "uv.txt")], dict(os.environ))
    uv = [str(PYTHON), "-m", "uv", "pip", "install", "--python", str(PYTHON)]
    if not sys.stderr.isatty():
        uv.append("--quiet")  # without a terminal its progress is a hundred lines
    run([*uv, "--require-hashes", "-r", str(LOCKS / LISTS[kind])], settings)
    say(kind, "3/3 the project itself")
    editable = [option for folder in packages() for option in ("-e", str(folder))]
    run([*uv, "--no-deps", *editable], settings)


def say(kind: str, text: str) -> None:
    """Show progress."""
    print(f"{kind}: {text}", file=sys.stderr, flush=True)


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command, its output visible beside our own; a failure names it."""
    code = subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode
    if code:
        raise SetupError(f"this failed with {code}; its output is above:\n  {shlex.join(command)}")


def make_environment() -> None:
    """Make .venv with pip, unless it is there and works."""
    if _runs([str(PYTHON), "-c", "import pip"]):
        return
    if not can_make_environments():
        repair_venv()
    python = getattr(sys, "_base_executable", sys.executable)
    made = subprocess.run([python, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False)
    if made.returncode:
        raise SetupError(f"could not make {VENV}:\n{made.stdout}{made.stderr}")


def can_make_environments() -> bool:
    """Tell whether this Python is whole: Debian and Ubuntu split these modules off."""
    return all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))


def repair_venv() -> None:
    """Install what Debian and Ubuntu split off Python where we may; elsewhere say what to type."""
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if shutil.which("apt-get") is None:
        raise SetupError(
            f"{sys.executable} lacks the standard modules venv and ensurepip. "
            "Install a whole Python 3.11 or newer from your system's packages or python.org, then start again"
        )
    if os.geteuid() != 0:
        raise SetupError(f"this Python lacks venv. Type this, then start again:\n  sudo apt-get install {package}")
    say("apt-get", f"installing {package}, which this Python lacks")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], environment)
    run(["apt-get", "install", "-q", "-y", "--no-install-recommends", package], environment)


# --------------------------------------------------------------------------------------- whose index, whose cache


def installer_settings() -> dict[str, str]:
    """Return the environment for uv: its own settings where there are any, else what pip is configured with."""
    settings = dict(os.environ)
    if "UV_CACHE_DIR" not in settings and not is_writable(_user_folder("XDG_CACHE_HOME", ".cache")):
        settings["UV_CACHE_DIR"] = str(VENV / "cache")
    own = any(name in settings for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS"))
    files = (_user_folder("XDG_CONFIG_HOME", ".config") / "uv" / "uv.toml", Path("/etc/uv/uv.toml"))
    if own or any(path.exists() for path in files):
        return settings
    return {**translated(pip_configuration()), **settings}


def translated(pip: dict[str, str]) -> dict[str, str]:
    """Return uv's words for what pip is configured with; folders that are not there are left out."""
    extra = " ".join(url for url in pip.get("extra-index-url", "").split() if not url.startswith("file:"))
    links = ",".join(link for link in pip.get("find-links", "").split() if "://" in link or Path(link).exists())
    words = {
        "UV_DEFAULT_INDEX": pip.get("index-url"),
        "UV_INDEX": extra,
        # pip takes the best of all indexes, uv the first that has the name: hashes decide what is right.
        "UV_INDEX_STRATEGY": "unsafe-best-match" if extra else None,
        "UV_FIND_LINKS": links,
        "UV_NO_INDEX": "1" if pip.get("no-index") in {"1", "true", "True"} else None,
        "SSL_CERT_FILE": pip.get("cert"),
    }
    return {name: value for name, value in words.items() if value}


def pip_configuration() -> dict[str, str]:
    """Return what pip is configured with by files and environment; the more specific wins."""
    command = [str(PYTHON), "-m", "pip", "config", "list"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = {}
    for place in ("global.", "install.", ":env:."):
        for line in shown.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(place):
                found[name.removeprefix(place)] = str(ast.literal_eval(value))
    return found


def pip_cache_option() -> list[str]:
    """Return pip's option for a cache that cannot be written."""
    return [] if is_writable(_user_folder("XDG_CACHE_HOME", ".cache")) else ["--no-cache-dir"]


def is_writable(folder: Path) -> bool:
    """Tell whether files can be made in the folder, which is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".remit-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError:  # root passes access(2) even where the file system is read-only
        return False
    return True


def _user_folder(variable: str, name: str) -> Path:
    return Path(os.environ.get(variable) or Path("~").expanduser() / name)


def _runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
