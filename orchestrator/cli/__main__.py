"""``python -m orchestrator.cli`` is ``axis``."""

from orchestrator.cli.app import main

main()
