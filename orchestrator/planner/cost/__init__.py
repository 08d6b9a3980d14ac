"""What will one training step cost: bytes per device, seconds, and money?

Pure arithmetic from a model's shape, a mesh and a hardware description. ``estimate`` answers
for one configuration, ``search`` for all of them. Formulas, sources and units are in
docs/planner.md. Knows nothing of clusters that exist, and measures nothing itself.
"""
