"""Looking after a store: compact, collect garbage, verify, describe."""
