"""Training commands: a recipe becomes data, student, objective and trainer."""
