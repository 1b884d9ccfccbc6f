"""What goes in and what comes out, as frozen dataclasses.

Names are those of the wire. Keys this version does not know are ignored, so
that a newer server can add some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union


@dataclass(frozen=True)
class Document:
    """A text to search in. A document with an `id` already there is replaced."""

    id: str
    text: str
    title: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Added:
    """What was stored: documents, the passages they became, and their tokens."""

    documents: int
    passages: int
    tokens: int


@dataclass(frozen=True)
class FileFailure:
    """A file that could not be added, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Job:
    """An upload that nobody waits for, as it was when it was asked about.

    `state` is `queued`, `running`, `done`, `failed` or `cancelled`; the last
    three stay, which `ended` tells. While it is queued, `before` jobs come
    first. `files` counts documents too; some that cannot be read, which
    `failures` names, leave a job `done`. Times are RFC 3339. A list of jobs
    has no `failures`.
    """

    id: str
    collection: str
    state: str
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    before: int | None = None
    cancel_asked: bool = False
    files: int = 0
    files_done: int = 0
    bytes: int = 0
    bytes_done: int = 0
    documents: int = 0
    unchanged: int = 0
    passages: int = 0
    tokens: int = 0
    failed: int = 0
    failures: tuple[FileFailure, ...] = ()
    error: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Hit:
    """A passage that was found; a larger `score` is better.

    `score` compares the hits of one search and nothing else; `scores` has what
    each stage gave: `dense` (cosine), `sparse` (BM25), `fused`, `rerank`. A
    search with `explain` fills `path`: stage, rank and score, in order.

    `start` and `end` count Unicode characters of the document's source text,
    so `text == source[start:end]` in Python. `heading` is the path of headings
    above the passage, outermost first.
    """

    id: int | str
    document_id: str
    title: str
    heading: tuple[str, ...]
    start: int
    end: int
    text: str
    score: float
    metadata: Mapping[str, Any]
    scores: Mapping[str, float] = field(default_factory=dict)
    path: tuple[Mapping[str, Any], ...] = ()
    page: int | None = None


@dataclass(frozen=True)
class Citation:
    """The words of a document that support an answer: `quote == source[start:end]`.

    `page` counts from 1 where the document has pages.
    """

    document_id: str
    title: str
    start: int
    end: int
    quote: str
    score: float
    page: int | None = None


@dataclass(frozen=True)
class Sentence:
    """A sentence of an answer; `citations` are places in those of the answer."""

    text: str
    citations: tuple[int, ...]
    support: float
    supported: bool


@dataclass(frozen=True)
class Replayed:
    """Whether an answer's passages were found again, and if not, why."""

    same: bool
    reasons: tuple[str, ...]
    passages: tuple[Hit, ...]


@dataclass(frozen=True)
class Answer:
    """An answer with its citations.

    When nothing supports an answer, `refused` is true, `reason` says why and
    `citations` is empty. `generator` names what wrote the text; `warnings`
    tell what did not go as the server is configured. `searched` says what was
    looked through and how sure the answer is; `provenance`, handed to `replay`,
    gets the same passages again.
    """

    answer: str
    citations: tuple[Citation, ...]
    refused: bool
    reason: str | None
    generator: str
    warnings: tuple[str, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    conversation_id: str | None = None
    searched: Mapping[str, Any] = field(default_factory=dict, compare=False)
    provenance: Mapping[str, Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Retrieved:
    """First event of a stream: the passages the answer will be made from."""

    passages: tuple[Hit, ...]


@dataclass(frozen=True)
class Delta:
    """The next piece of the answer's text."""

    text: str


@dataclass(frozen=True)
class Cited:
    """One citation, as soon as it has been checked."""

    citation: Citation


@dataclass(frozen=True)
class Done:
    """Last event of a stream: the whole answer, as `ask` returns it."""

    answer: Answer


Event = Union[Retrieved, Delta, Cited, Done]
