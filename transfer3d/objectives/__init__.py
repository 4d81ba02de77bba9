"""Training objectives: correspondence with a frozen teacher, classification, their heads and losses."""
