"""`python -m billing api|work|all`."""

from billing.main import build
from billing.settings import Settings
from spine.process import main

main(build, Settings, "billing")
