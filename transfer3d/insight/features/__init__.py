"""Feature extraction: named layers, files of features and their formats."""
