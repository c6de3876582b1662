"""`python -m remit_cli`: the `remit` command."""

from remit_cli.app import run

run()
