"""`headrace demo`: the whole way on real flight data, with commands and HTTP calls that a person has, too."""

from headrace.cli.demo.command import command

__all__ = ["command"]
