"""TFRecord shards: planning, encoding, writing, checking."""
