"""The work of the commands; for training, building data, student, objective and trainer from a recipe."""
