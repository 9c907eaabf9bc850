"""How a task becomes a process."""
