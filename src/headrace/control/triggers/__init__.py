"""What starts a run without a person: a push to a git repository, or the schedule of a recurring run."""
