"""`python -m audit api|work|all`."""

from audit.main import build
from audit.settings import Settings
from spine.process import main

main(build, Settings, "audit")
