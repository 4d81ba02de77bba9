"""Students: one family per file, the model registry, checkpoints."""
