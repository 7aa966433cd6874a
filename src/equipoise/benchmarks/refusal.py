"""The answer to a request that cannot be carried out: one line that says what to write instead."""

from __future__ import annotations


class RequestError(ValueError):
    """A request that cannot be carried out; the message is one line for the user to read."""
