"""Figures, film strips and moving pictures, drawn in one way."""
