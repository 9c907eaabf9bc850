"""Move a service from one revision to the next, step by step, and back when production says no."""
