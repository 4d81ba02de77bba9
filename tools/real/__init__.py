"""What `tools/real_result.py` is made of."""
