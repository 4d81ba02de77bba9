"""Layers that students are built of; they know nothing of students."""
