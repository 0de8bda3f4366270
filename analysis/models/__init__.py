"""Classical models: their grids, the search, calibration, and how one is kept."""
