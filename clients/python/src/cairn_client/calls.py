"""Every request we can make: what is sent, and how the result is read.

Knows the wire and nothing about sockets. `client` sends a call, plainly or
with `await`, so the two clients share all that is here.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any, Callable, Generic, TypeVar, Union
from urllib.parse import quote, urlencode

from .errors import CairnError, from_response
from .events import EventParser
from .types import (
    Added,
    Answer,
    Citation,
    Cited,
    Delta,
    Document,
    Done,
    Event,
    FileFailure,
    Hit,
    Job,
    Replayed,
    Retrieved,
    Sentence,
)

T = TypeVar("T")
Json = Mapping[str, Any]
# A file on the disk, or a name and what is in it.
File = Union[str, "PathLike[str]", tuple[str, bytes]]


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its response becomes a `T`.

    It has a `body`, or `files` with names and bytes. `known` holds the statuses
    that are an answer in themselves.
    """

    method: str
    path: str
    body: Json | None
    read: Callable[[bytes], T]
    known: Mapping[int, T] = field(default_factory=dict)
    files: Sequence[tuple[str, bytes]] = ()

    @property
    def parts(self) -> list[tuple[str, tuple[str, bytes]]] | None:
        """The files as parts of a form, if there are some."""
        return [("file", file) for file in self.files] or None

    def result(self, status: int, body: bytes) -> T:
        """Reads the response, or raises what it says went wrong."""
        if status in self.known:
            return self.known[status]
        if not 200 <= status < 300:
            raise from_response(status, body)
        try:
            return self.read(body)
        except _UNREADABLE as error:
            raise _unexpected(error) from error


# What reading an answer that is not ours can raise.
_UNREADABLE = (LookupError, TypeError, ValueError, struct.error)


def create_collection(collection: str, vectors: Json, string_ids: bool) -> Call[bool]:
    body: dict[str, Any] = {"vectors": vectors}
    if string_ids:
        body["string_ids"] = True
    return Call("PUT", _collection(collection), body, _result(bool))


def take_string_ids(collection: str) -> Call[bool]:
    return Call("PATCH", _collection(collection), {"string_ids": True}, _result(bool))


def add_documents(
    collection: str, documents: Iterable[Document | Json], format: str | None
) -> Call[Added]:
    body = _documents(documents, format)
    return Call("PUT", f"{_collection(collection)}/documents", body, _result(_added))


def queue_documents(
    collection: str, documents: Iterable[Document | Json], format: str | None
) -> Call[Job]:
    path = f"{_collection(collection)}/documents?wait=false"
    return Call("PUT", path, _documents(documents, format), _result(_job))


def queue_files(collection: str, files: Iterable[File]) -> Call[Job]:
    # One path is an iterable of letters, which nobody means.
    several = [files] if isinstance(files, (str, PathLike)) else files
    named = [_file(file) for file in several]
    if not named:
        raise CairnError(400, "there is no file to upload")
    path = f"{_collection(collection)}/documents/files?wait=false"
    return Call("POST", path, None, _result(_job), files=named)


def job(id: str) -> Call[Job]:
    return Call("GET", f"/jobs/{_segment('job id', id)}", None, _result(_job))


def jobs(collection: str | None, state: str | None, limit: int | None) -> Call[list[Job]]:
    wanted = urlencode(_present(collection=collection, state=state, limit=limit))
    read = _result(lambda result: [_job(job) for job in result["jobs"]])
    return Call("GET", f"/jobs?{wanted}" if wanted else "/jobs", None, read)


def cancel_job(id: str) -> Call[Job]:
    return Call("DELETE", f"/jobs/{_segment('job id', id)}", None, _result(_job))


def late(job: Job, timeout: float) -> CairnError:
    """The error of a job that has not ended in time."""
    done = f"{job.files_done} of {job.files} files"
    return CairnError(0, f"job {job.id} is {job.state} after {timeout:g} s, with {done}; it goes on")


def delete_document(collection: str, id: str) -> Call[int]:
    path = f"{_collection(collection)}/documents/{_segment('document id', id)}"
    return Call("DELETE", path, None, _result(lambda result: int(result["deleted"])))


def search(
    collection: str,
    query: str,
    limit: int | None,
    filter: Json | None,
    retrieval: Json | None = None,
    explain: bool = False,
) -> Call[list[Hit]]:
    body = _present(query=query, limit=limit, filter=filter, retrieval=retrieval)
    if explain:
        body = {**body, "explain": True}
    read = _result(lambda result: [_hit(hit) for hit in result["hits"]])
    return Call("POST", f"{_collection(collection)}/search", body, read)


def ask(
    collection: str,
    question: str,
    limit: int | None,
    filter: Json | None,
    *,
    retrieval: Json | None = None,
    conversation_id: str | None = None,
    max_sentences: int | None = None,
    stream: bool = False,
) -> Call[Answer]:
    body = _present(
        question=question,
        limit=limit,
        filter=filter,
        retrieval=retrieval,
        conversation_id=conversation_id,
        max_sentences=max_sentences,
        stream=stream,
    )
    return Call("POST", f"{_collection(collection)}/ask", body, _result(_answer))


def replay(collection: str, provenance: Json) -> Call[Replayed]:
    return Call("POST", f"{_collection(collection)}/replay", provenance, _result(_replayed))


def start_conversation(collection: str) -> Call[str]:
    read = _result(lambda result: str(result["id"]))
    return Call("POST", f"{_collection(collection)}/conversations", None, read)


def delete_conversation(collection: str, id: str) -> Call[None]:
    path = f"{_collection(collection)}/conversations/{_segment('conversation id', id)}"
    return Call("DELETE", path, None, lambda body: None)


def embed(texts: Sequence[str], model: str | None) -> Call[list[list[float]]]:
    # A string is a sequence of one-letter texts, which nobody means.
    inputs = [texts] if isinstance(texts, str) else list(texts)
    body = _present(input=inputs, model=model, encoding_format="base64")
    return Call("POST", "/v1/embeddings", body, _vectors)


def health() -> Call[bool]:
    return Call("GET", "/readyz", None, lambda body: True, known={503: False})


def events(parser: EventParser, chunk: bytes) -> Iterator[Event]:
    """The events of an answer's stream that `chunk` completes."""
    for name, data in parser.feed(chunk):
        try:
            event = _event(name, json.loads(data))
        except _UNREADABLE as error:
            raise _unexpected(error) from error
        if event is not None:
            yield event


def cut_off() -> CairnError:
    """The error of a stream that ended before its `done` event."""
    return CairnError(0, "the answer broke off; see the server's log, then ask again")


def _event(name: str, data: Any) -> Event | None:
    if name == "retrieval":
        return Retrieved(tuple(_hit(hit) for hit in data["passages"]))
    if name == "delta":
        return Delta(data["text"])
    if name == "citation":
        return Cited(_citation(data))
    if name == "done":
        return Done(_answer(data))
    if name == "error":
        # The status line said 200 before the answer failed.
        raise CairnError(500, data["error"])
    return None  # a newer server may send more


def _unexpected(error: Exception) -> CairnError:
    cause = f"{type(error).__name__}: {error}"
    return CairnError(0, f"the answer cannot be read ({cause}); is it a Cairn server's?")


def _collection(name: str) -> str:
    return f"/collections/{_segment('collection name', name)}"


def _segment(what: str, value: str) -> str:
    # `documents/..` would be sent as a request for the collection itself.
    if value in ("", ".", ".."):
        raise CairnError(400, f"{what} `{value}` cannot stand in a URL; choose another one")
    return quote(value, safe="")


def _documents(documents: Iterable[Document | Json], format: str | None) -> Json:
    body: dict[str, Any] = {"documents": [_document(document) for document in documents]}
    if format is not None:
        body["format"] = format
    return body


def _file(file: File) -> tuple[str, bytes]:
    if isinstance(file, tuple):
        return file
    path = Path(file)
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise CairnError(0, f"cannot read {path}: {error.strerror}") from error


def _document(document: Document | Json) -> Json:
    if not isinstance(document, Document):
        return document
    return {key: value for key, value in asdict(document).items() if value is not None}


def _present(**fields: Any) -> Json:
    return {key: value for key, value in fields.items() if value is not None}


def _result(read: Callable[[Any], T]) -> Callable[[bytes], T]:
    return lambda body: read(json.loads(body)["result"])


def _added(result: Any) -> Added:
    return Added(result["documents"], result["passages"], result["tokens"])


def _job(result: Any) -> Job:
    known = {key: result[key] for key in (field.name for field in fields(Job)) if key in result}
    failures = tuple(_failure(failure) for failure in result.get("failures") or ())
    return Job(**{**known, "failures": failures})


def _failure(failure: Any) -> FileFailure:
    return FileFailure(name=failure["name"], reason=failure["reason"])


def _hit(hit: Any) -> Hit:
    return Hit(
        id=hit["id"],
        document_id=hit["document_id"],
        title=hit.get("title") or "",
        heading=tuple(hit.get("heading") or ()),
        start=hit["start"],
        end=hit["end"],
        text=hit["text"],
        score=hit["score"],
        metadata=hit.get("metadata") or {},
        scores=hit.get("scores") or {},
        path=tuple(hit.get("path") or ()),
        page=hit.get("page"),
    )


def _citation(citation: Any) -> Citation:
    return Citation(
        document_id=citation["document_id"],
        title=citation.get("title") or "",
        start=citation["start"],
        end=citation["end"],
        quote=citation["quote"],
        score=citation["score"],
        page=citation.get("page"),
    )


def _answer(result: Any) -> Answer:
    return Answer(
        answer=result["answer"],
        citations=tuple(_citation(citation) for citation in result["citations"]),
        refused=result["refused"],
        reason=result.get("reason"),
        generator=result["generator"],
        warnings=tuple(result.get("warnings") or ()),
        sentences=tuple(_sentence(sentence) for sentence in result.get("sentences") or ()),
        conversation_id=result.get("conversation_id"),
        searched=result.get("searched") or {},
        provenance=result.get("provenance"),
    )


def _sentence(sentence: Any) -> Sentence:
    return Sentence(
        text=sentence["text"],
        citations=tuple(sentence["citations"]),
        support=sentence["support"],
        supported=sentence["supported"],
    )


def _replayed(result: Any) -> Replayed:
    return Replayed(
        same=result["same"],
        reasons=tuple(result.get("reasons") or ()),
        passages=tuple(_hit(hit) for hit in result["passages"]),
    )


def _vectors(body: bytes) -> list[list[float]]:
    rows = sorted(json.loads(body)["data"], key=lambda row: int(row["index"]))
    return [_floats(base64.b64decode(row["embedding"])) for row in rows]


def _floats(bytes: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(bytes) // 4}f", bytes))
