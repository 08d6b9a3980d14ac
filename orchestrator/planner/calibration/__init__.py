"""What do measurements say of a machine, and of the planner? Numbers in, a hardware file out."""
