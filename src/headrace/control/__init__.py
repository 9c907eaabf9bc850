"""Loops that move the world one safe step toward what a document asks."""
