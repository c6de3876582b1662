"""The folder that `remit agents new` makes: a package with one agent in Python, to be changed."""

import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path

from remit_cli.failures import CliError

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_NAME = 63
_FILES = {
    "pyproject.toml.template": "pyproject.toml",
    "module.py.template": "{module}.py",
    "agent.yaml.template": "{name}.agent.yaml",
    "input.json.template": "input.json",
    "README.md.template": "README.md",
}


def make_agent_folder(name: str, folder: Path) -> list[Path]:
    """Make the folder of a new agent; returns its files. CliError for a name or a folder that cannot be taken."""
    module = _module_of(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CliError(f"{folder} is there already, and not empty")
    made = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for template, target in _FILES.items():
            text = files("remit_cli").joinpath("agent_template", template).read_text()
            path = folder / target.format(name=name, module=module)
            path.write_text(text.format(name=name, module=module))
            made.append(path)
    except OSError as error:
        raise CliError(f"{folder}: {error.strerror}") from None
    return made


def _module_of(name: str) -> str:
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise CliError(f"{name!r} is no name: small letters and digits, with single hyphens, 63 at most")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise CliError(f"{name!r} is a word of Python's own: choose another")
    return module
