"""Videos on disk -> batches of clips."""
