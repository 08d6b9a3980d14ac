"""What will a plan's run take, what will limit it, and what did? Predicted beside measured."""
