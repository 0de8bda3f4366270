"""Audio is decoded once, into Parquet tables."""
