"""Whether what is seen now is still what was seen at first: two samples and a verdict."""
