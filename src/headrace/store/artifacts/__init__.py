"""Artifact bytes and their digests."""
