"""Simulated rollouts, judged by the product's own `judge` and by the rules that others use, on the same traffic."""
