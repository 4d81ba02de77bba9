"""Commands that write reports and figures, and probe features."""
