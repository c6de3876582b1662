"""`./dev lock`: resolve the workspace anew and write the hash-pinned lists that installations use."""

from __future__ import annotations

from remit_local.dev.commands import program, show
from remit_local.dev.workspace import ROOT

FOLDER = ROOT / "deploy" / "locks"
EXPORT = ("export", "-q", "--frozen", "--no-emit-workspace", "--no-header", "--no-annotate")
# uv.lock names the hosts files came from and stays out of the repository (docs/decisions/0005).
LISTS = {"product.txt": ("--no-dev",), "dev.txt": ()}


def lock(*, upgrade: bool) -> int:
    """Resolve, keeping the versions of uv.lock unless `upgrade`, and write all lists; the first failure ends it."""
    uv = program("uv")
    if code := show([uv, "lock", *(["--upgrade"] if upgrade else [])]):
        return code
    for name, options in LISTS.items():
        if code := show([uv, *EXPORT, *options, "--output-file", str(FOLDER / name)]):
            return code
    return 0
