"""What exists and where it came from."""
