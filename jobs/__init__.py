"""Jobs to run and to copy; they use nothing of the orchestrator but its public names."""
