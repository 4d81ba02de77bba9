"""Recipes: TOML in, one checked and frozen description of a run out."""
