"""What starts a run without a person: today, a push to a git repository."""
