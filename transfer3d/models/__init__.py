"""Students: one family per file, a registry of their names, their checkpoints."""
