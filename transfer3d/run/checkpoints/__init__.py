"""Commands that create, read and export checkpoints."""
