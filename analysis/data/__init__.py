"""Samples from the warehouse, and who learns from whom."""
