"""Weights on disk: headers, digests, files of others, and where they are found."""
