"""Headrace's model server beside its peers, on this machine: `make bench-serving`."""
