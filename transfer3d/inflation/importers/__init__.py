"""Imports third-party checkpoints as students that compute the same function."""
