"""The one exception of this package, and how it is read from a response."""

from __future__ import annotations

import json
from typing import Any

import httpx


class CairnError(Exception):
    """A request that did not succeed.

    `status` is the HTTP status, or 0 when the server gave no usable answer:
    it could not be reached, was too slow, or broke off. `message` is the
    server's own text, or says what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return f"{self.status}: {self.message}" if self.status else self.message


def from_response(status: int, body: bytes) -> CairnError:
    """Reads the error text from a failed response, whichever shape it has."""
    text = body.decode("utf-8", errors="replace").strip()
    return CairnError(status, _message(text) or f"the server answered {status} and no text")


def from_transport(url: str, error: httpx.TransportError) -> CairnError:
    """Says what went wrong between us and the server, and what to do."""
    if isinstance(error, httpx.ConnectTimeout):
        mend = "check the address and that nothing on the way blocks the port"
    elif isinstance(error, httpx.ConnectError):
        mend = "start the server with `cairn serve`, or pass its address as `url`"
    elif isinstance(error, httpx.TimeoutException):
        mend = "pass a larger `timeout`, or send less at once"
    elif isinstance(error, httpx.UnsupportedProtocol):
        mend = "write the address as http://HOST:PORT"
    else:
        mend = "see the server's log, then try again"
    cause = str(error) or type(error).__name__
    return CairnError(0, f"no answer from {url}: {cause}; {mend}")


def _message(text: str) -> str:
    try:
        body: Any = json.loads(text)
    except ValueError:
        return text  # a wrong key is answered with plain text
    if not isinstance(body, dict):
        return text
    status, error = body.get("status"), body.get("error")
    if isinstance(status, dict) and isinstance(status.get("error"), str):
        return str(status["error"])
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])  # the OpenAI endpoints
    return error if isinstance(error, str) else text
