"""Many processes: the same numbers on each, averages, sharded parameters."""
