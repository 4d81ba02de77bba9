"""Commands that run a trained student over videos."""
