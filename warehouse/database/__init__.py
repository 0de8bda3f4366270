"""The DuckDB connection over one snapshot of a store: views, macros, comments."""
