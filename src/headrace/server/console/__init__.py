"""The console: server-rendered pages over the functions that the API and the command line call, too."""

from headrace.server.console.application import console

__all__ = ["console"]
