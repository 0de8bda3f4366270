"""Deep learning: TFRecord shards from a store, networks, training, evaluation and prediction."""
