"""Before and during a training: see what balancing does."""
