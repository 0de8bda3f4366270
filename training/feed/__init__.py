"""From shards to batches: tf.data pipelines and augmentation."""
