"""Reports, figures and probes of what was learnt."""
