"""Test protocols and metrics."""
