"""The only place of this package that reads the environment."""

import os
from collections.abc import Mapping

_INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "SSL_CERT_FILE", "LD_LIBRARY_PATH")


def setting(name: str) -> str | None:
    """Return the value of `REMIT_<NAME>`, or nothing when it is unset or empty."""
    return os.environ.get(f"REMIT_{name}") or None


def server_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return what a private server may see of our environment, plus `extra`; no secret and no setting of ours leaks."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **kept, **extra}


def whole_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return our environment with `extra` on top, for children that are part of the product."""
    # Without cached bytecode each of them would compile a thousand modules at every start: ten seconds instead of two.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **extra}
