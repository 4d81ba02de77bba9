"""Turns a 2D network's weights into a student's; accounts for every tensor and proves the result."""
