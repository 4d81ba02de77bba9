"""A self-contained HTML report of a run, or a comparison of several."""
