"""Layers for students; none of them depends on a student."""
