"""What does the orchestrator cost, beside what one would write by hand?

``python -m benchmarks`` runs everything and writes ``benchmarks/results/*.json``. What is written
by hand lies in ``benchmarks/by_hand`` and uses nothing of the orchestrator but the Job, and a
checkpoint to serve.
"""
