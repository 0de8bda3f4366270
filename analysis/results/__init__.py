"""How the results of a study are written down."""
