"""The training commands: build data, student, objective and trainer from a recipe."""
