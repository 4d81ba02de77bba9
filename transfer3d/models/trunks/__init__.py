"""Trunks that several families share."""
