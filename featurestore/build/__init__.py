"""The build: what is left to do, who does it, what came of it."""
