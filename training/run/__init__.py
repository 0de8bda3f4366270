"""Training: the loop, its callbacks, its devices."""
