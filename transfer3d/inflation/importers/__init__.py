"""Turns checkpoints released by others into students that compute the same function."""
