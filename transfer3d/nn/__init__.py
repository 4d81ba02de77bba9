"""Layers: what a student is built of, and nothing that knows a student."""
