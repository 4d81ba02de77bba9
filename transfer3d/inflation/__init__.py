"""Inflates a 2D network's weights to a student's, accounts for every tensor and checks the result."""
