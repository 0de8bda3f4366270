"""Every figure, drawn from results that are already written."""
