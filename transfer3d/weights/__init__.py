"""Weights on disk: headers, digests, files of others, and how they are located."""
