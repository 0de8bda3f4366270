"""Matrices and streams of arrays in the order that studies and training read them."""
