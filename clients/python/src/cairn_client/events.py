"""Server-sent events from the bytes of a response, whichever way they are cut.

Follows the parsing rules of the HTML standard for `event` and `data`. Lines
end with LF, CR or CRLF only: `str.splitlines` would also cut at U+2028, which
may stand inside a JSON string.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventParser:
    """Turns chunks of bytes into `(event, data)` pairs."""

    def __init__(self) -> None:
        self._rest = b""
        self._event = ""
        self._data: list[str] = []
        self._first = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str]]:
        """Takes the next bytes; yields the events they complete."""
        for line in self._lines(chunk):
            text = line.decode("utf-8", errors="replace")
            if self._first:
                text = text.removeprefix("\ufeff")
                self._first = False
            if text:
                self._field(text)
                continue
            if self._data:
                yield self._event or "message", "\n".join(self._data)
            self._event, self._data = "", []

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        # A CR ends its line at once; the LF that may follow it, perhaps in
        # the next chunk, belongs to the same line end.
        if self._after_cr and chunk:
            chunk = chunk[1:] if chunk.startswith(b"\n") else chunk
            self._after_cr = False
        buffer = self._rest + chunk
        start = 0
        for end in _LINE_END.finditer(buffer, len(self._rest)):
            yield buffer[start : end.start()]
            start = end.end()
            self._after_cr = end.group() == b"\r" and start == len(buffer)
        self._rest = buffer[start:]

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
