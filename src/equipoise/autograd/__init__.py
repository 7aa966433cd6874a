"""How the graph of a step is read, and how gradients are written back into it."""
