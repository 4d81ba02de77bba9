"""How fast things are here: ratios to named baselines, measured in one run."""
