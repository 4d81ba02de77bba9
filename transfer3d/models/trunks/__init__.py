"""Trunks that several families stand on."""
