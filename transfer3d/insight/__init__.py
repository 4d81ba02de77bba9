"""Visualisation and analysis of students: class activation maps, kernels, features, reports."""
