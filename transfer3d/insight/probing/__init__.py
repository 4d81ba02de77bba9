"""What can be read off features: linear probes, action similarity, the PCA curve."""
