"""`python -m execution api|work|all`."""

from __future__ import annotations

from chassis.process import main
from execution.main import build
from execution.settings import Settings

if __name__ == "__main__":
    main(build, Settings, "execution")
