"""Supervision transfer from a frozen image model to a video student."""
