"""What a request can fail with; the protocols' codes hang on these."""

from __future__ import annotations


class BadRequest(Exception):
    """A client's mistake; the text is the answer's `error`. HTTP 400, gRPC INVALID_ARGUMENT."""


class UnknownModel(Exception):
    """No model, or no version of it, of that name. HTTP 404, gRPC NOT_FOUND."""


class NotReady(Exception):
    """The model was unloaded. HTTP 503, gRPC UNAVAILABLE."""


class Overloaded(Exception):
    """Too many requests wait already. HTTP 503 with Retry-After, gRPC RESOURCE_EXHAUSTED."""


class NotImplementedHere(Exception):
    """The protocol knows it, this server does not. HTTP 501, gRPC UNIMPLEMENTED."""


class BadAnswer(Exception):
    """The model's answer is not fit to be given out: not finite, or not what its signature says. HTTP 500."""
