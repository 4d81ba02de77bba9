"""Weights on disk: headers, digests, third-party files, and how they are located."""
