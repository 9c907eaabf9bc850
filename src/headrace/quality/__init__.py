"""Judges evidence and returns a verdict; never acts."""
