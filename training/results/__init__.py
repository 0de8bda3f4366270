"""What a run leaves: report, model, predictions."""
