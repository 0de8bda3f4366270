"""The command line of the warehouse: questions, named queries, the prompt."""
