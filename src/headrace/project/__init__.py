"""A team's repository: read it, build the platform it names, write the files it needs."""
