"""What the studies compute, apart from their commands."""
