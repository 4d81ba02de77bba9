"""Commands that check and pack datasets."""
