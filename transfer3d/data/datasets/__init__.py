"""Layouts of datasets: one module each, all of which return a `Listing`."""
