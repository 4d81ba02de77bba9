"""Commands that make, read and export checkpoints."""
