"""What one would write without the orchestrator: as plain and as fast as a good engineer would."""
