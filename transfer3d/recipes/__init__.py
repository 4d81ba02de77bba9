"""Recipes: reads TOML files into validated, frozen configurations of runs."""
