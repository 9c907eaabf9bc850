"""Answers predictions and sends each request to the revision that the split says."""
