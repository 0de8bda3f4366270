"""Labels, splits and imported feature sets on their way into the store."""
