"""The HTTP interface: triggers, approvals, late labels, runs and rollouts as JSON."""
