"""Runs the same documents elsewhere; each engine says what it cannot do."""
