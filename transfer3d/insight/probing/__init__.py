"""Probing of frozen features: linear probes, action similarity, accuracy over PCA dimensions."""
