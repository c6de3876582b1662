"""`python -m policy api|work|all`."""

from policy.main import build
from policy.settings import Settings
from spine.process import main

main(build, Settings, "policy")
