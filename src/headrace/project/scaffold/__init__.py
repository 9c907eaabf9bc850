"""Make what a team starts with: a project from a template, and a remote whose pushes start runs."""
