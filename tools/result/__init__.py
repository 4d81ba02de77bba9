"""What `tools/transfer_result.py` is made of."""
