"""One batch of files: decode each, extract, check the rows, commit."""
