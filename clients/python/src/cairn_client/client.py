"""The two clients: `Cairn` and, with `await`, `AsyncCairn`.

Both only send what `calls` describes. A client keeps its connections open:
close it, or use it in a `with`. Threads (tasks) may share one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar, Union

import httpx

from . import calls
from .calls import Call, File
from .errors import from_response, from_transport
from .events import EventParser
from .types import Added, Answer, Document, Done, Event, Hit, Job, Replayed

T = TypeVar("T")
Filter = Mapping[str, Any]
Documents = Iterable[Union[Document, Mapping[str, Any]]]

LOCAL = "http://127.0.0.1:6333"
# Seconds between two questions whether a job has ended.
POLL = 0.2


class Cairn:
    """A Cairn server at `url`.

    `timeout` is in seconds and bounds each wait for the server, not a whole
    stream. A request that does not succeed raises `CairnError`.
    """

    def __init__(self, url: str = LOCAL, api_key: str | None = None, timeout: float = 60.0) -> None:
        self._url = url
        self._http = httpx.Client(base_url=url, headers=_headers(api_key), timeout=timeout)

    def create_collection(
        self, collection: str, vectors: Mapping[str, Any], *, string_ids: bool = False
    ) -> bool:
        """Makes a collection for points, for example of `{"size": 384, "distance": "Cosine"}`.

        With `string_ids` its points may be called by any string; without, by
        numbers and UUIDs. For documents no collection needs to be made.
        """
        return self._send(calls.create_collection(collection, vectors, string_ids))

    def take_string_ids(self, collection: str) -> bool:
        """Lets points of a collection be called by any string from now on."""
        return self._send(calls.take_string_ids(collection))

    def add_documents(
        self, collection: str, documents: Documents, *, format: str | None = None
    ) -> Added:
        """Splits documents into passages and makes them searchable.

        Creates the collection when it is missing. `format` is "markdown",
        which plain prose also is, or "text"; the server's default is Markdown.
        """
        return self._send(calls.add_documents(collection, documents, format))

    def queue_documents(
        self, collection: str, documents: Documents, *, format: str | None = None
    ) -> Job:
        """Like `add_documents`, but returns as soon as they are on the server's disk."""
        return self._send(calls.queue_documents(collection, documents, format))

    def queue_files(self, collection: str, files: Iterable[File]) -> Job:
        """Uploads files of any known format; returns as soon as they are on the server's disk.

        Each is a path, or a name and bytes. They are in memory while they are sent.
        """
        return self._send(calls.queue_files(collection, files))

    def job(self, id: str) -> Job:
        """How far an upload is that was queued."""
        return self._send(calls.job(id))

    def jobs(
        self, collection: str | None = None, *, state: str | None = None, limit: int | None = None
    ) -> list[Job]:
        """Jobs that wait, run or have ended lately, the newest first."""
        return self._send(calls.jobs(collection, state, limit))

    def cancel_job(self, id: str) -> Job:
        """Ends a job: a queued one at once, a running one within a batch; what it wrote stays."""
        return self._send(calls.cancel_job(id))

    def wait_for_job(self, id: str, *, timeout: float | None = None) -> Job:
        """The job when it has ended, however it did; `timeout` is in seconds."""
        start = time.monotonic()
        while not (job := self.job(id)).ended:
            if timeout is not None and time.monotonic() - start >= timeout:
                raise calls.late(job, timeout)
            time.sleep(POLL)
        return job

    def delete_document(self, collection: str, id: str) -> int:
        """Removes a document; returns how many passages it had."""
        return self._send(calls.delete_document(collection, id))

    def search(
        self,
        collection: str,
        query: str,
        *,
        limit: int | None = None,
        filter: Filter | None = None,
        retrieval: Mapping[str, Any] | None = None,
        explain: bool = False,
    ) -> list[Hit]:
        """Finds the passages that match `query` in meaning and words, best first.

        `filter` has Qdrant's grammar, over keys such as `metadata.lang`.
        `retrieval` changes how they are found, for example `{"mode": "sparse"}`;
        `explain` fills `path` of each hit.
        """
        return self._send(
            calls.search(collection, query, limit, filter, retrieval, explain)
        )

    def ask(
        self,
        collection: str,
        question: str,
        *,
        limit: int | None = None,
        filter: Filter | None = None,
        retrieval: Mapping[str, Any] | None = None,
        conversation_id: str | None = None,
        max_sentences: int | None = None,
    ) -> Answer:
        """Answers from the collection, with citations, or says that it cannot.

        `limit` is how many passages the answer may be made from. With a
        `conversation_id` the question may point back to earlier ones.
        """
        call = calls.ask(
            collection,
            question,
            limit,
            filter,
            retrieval=retrieval,
            conversation_id=conversation_id,
            max_sentences=max_sentences,
        )
        return self._send(call)

    def replay(self, collection: str, provenance: Mapping[str, Any]) -> Replayed:
        """Finds again what an answer was made from, by its `provenance`."""
        return self._send(calls.replay(collection, provenance))

    def start_conversation(self, collection: str) -> str:
        """Starts a conversation; `ask` takes its id and remembers what was said."""
        return self._send(calls.start_conversation(collection))

    def delete_conversation(self, collection: str, id: str) -> None:
        """Deletes a conversation and what was said in it."""
        return self._send(calls.delete_conversation(collection, id))

    def ask_stream(
        self,
        collection: str,
        question: str,
        *,
        limit: int | None = None,
        filter: Filter | None = None,
        retrieval: Mapping[str, Any] | None = None,
        conversation_id: str | None = None,
        max_sentences: int | None = None,
    ) -> Iterator[Event]:
        """Like `ask`, event by event: `Retrieved`, `Delta`s, `Cited`s, `Done`."""
        call = calls.ask(
            collection,
            question,
            limit,
            filter,
            retrieval=retrieval,
            conversation_id=conversation_id,
            max_sentences=max_sentences,
            stream=True,
        )
        parser = EventParser()
        with _transport(self._url):
            with self._http.stream(call.method, call.path, json=call.body) as response:
                if not response.is_success:
                    raise from_response(response.status_code, response.read())
                for chunk in response.iter_bytes():
                    for event in calls.events(parser, chunk):
                        yield event
                        if isinstance(event, Done):
                            return
        raise calls.cut_off()

    def embed(self, texts: Sequence[str], model: str | None = None) -> list[list[float]]:
        """Turns each text into a vector, with `model` or the server's default one."""
        return self._send(calls.embed(texts, model))

    def health(self) -> bool:
        """True when the server is ready, false while it is still starting."""
        return self._send(calls.health())

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Cairn:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, call: Call[T]) -> T:
        with _transport(self._url):
            response = self._http.request(
                call.method, call.path, json=call.body, files=call.parts
            )
        return call.result(response.status_code, response.content)


class AsyncCairn:
    """`Cairn` for asyncio: the same arguments, results and errors."""

    def __init__(self, url: str = LOCAL, api_key: str | None = None, timeout: float = 60.0) -> None:
        self._url = url
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(api_key), timeout=timeout)

    async def create_collection(
        self, collection: str, vectors: Mapping[str, Any], *, string_ids: bool = False
    ) -> bool:
        """See `Cairn.create_collection`."""
        return await self._send(calls.create_collection(collection, vectors, string_ids))

    async def take_string_ids(self, collection: str) -> bool:
        """See `Cairn.take_string_ids`."""
        return await self._send(calls.take_string_ids(collection))

    async def add_documents(
        self, collection: str, documents: Documents, *, format: str | None = None
    ) -> Added:
        """See `Cairn.add_documents`."""
        return await self._send(calls.add_documents(collection, documents, format))

    async def queue_documents(
        self, collection: str, documents: Documents, *, format: str | None = None
    ) -> Job:
        """See `Cairn.queue_documents`."""
        return await self._send(calls.queue_documents(collection, documents, format))

    async def queue_files(self, collection: str, files: Iterable[File]) -> Job:
        """See `Cairn.queue_files`."""
        return await self._send(calls.queue_files(collection, files))

    async def job(self, id: str) -> Job:
        """See `Cairn.job`."""
        return await self._send(calls.job(id))

    async def jobs(
        self, collection: str | None = None, *, state: str | None = None, limit: int | None = None
    ) -> list[Job]:
        """See `Cairn.jobs`."""
        return await self._send(calls.jobs(collection, state, limit))

    async def cancel_job(self, id: str) -> Job:
        """See `Cairn.cancel_job`."""
        return await self._send(calls.cancel_job(id))

    async def wait_for_job(self, id: str, *, timeout: float | None = None) -> Job:
        """See `Cairn.wait_for_job`."""
        start = time.monotonic()
        while not (job := await self.job(id)).ended:
            if timeout is not None and time.monotonic() - start >= timeout:
                raise calls.late(job, timeout)
            await asyncio.sleep(POLL)
        return job

    async def delete_document(self, collection: str, id: str) -> int:
        """See `Cairn.delete_document`."""
        return await self._send(calls.delete_document(collection, id))

    async def search(
        self,
        collection: str,
        query: str,
        *,
        limit: int | None = None,
        filter: Filter | None = None,
        retrieval: Mapping[str, Any] | None = None,
        explain: bool = False,
    ) -> list[Hit]:
        """See `Cairn.search`."""
        return await self._send(
            calls.search(collection, query, limit, filter, retrieval, explain)
        )

    async def ask(
        self,
        collection: str,
        question: str,
        *,
        limit: int | None = None,
        filter: Filter | None = None,
        retrieval: Mapping[str, Any] | None = None,
        conversation_id: str | None = None,
        max_sentences: int | None = None,
    ) -> Answer:
        """See `Cairn.ask`."""
        call = calls.ask(
            collection,
            question,
            limit,
            filter,
            retrieval=retrieval,
            conversation_id=conversation_id,
            max_sentences=max_sentences,
        )
        return await self._send(call)

    async def replay(self, collection: str, provenance: Mapping[str, Any]) -> Replayed:
        """See `Cairn.replay`."""
        return await self._send(calls.replay(collection, provenance))

    async def start_conversation(self, collection: str) -> str:
        """See `Cairn.start_conversation`."""
        return await self._send(calls.start_conversation(collection))

    async def delete_conversation(self, collection: str, id: str) -> None:
        """See `Cairn.delete_conversation`."""
        return await self._send(calls.delete_conversation(collection, id))

    async def ask_stream(
        self,
        collection: str,
        question: str,
        *,
        limit: int | None = None,
        filter: Filter | None = None,
        retrieval: Mapping[str, Any] | None = None,
        conversation_id: str | None = None,
        max_sentences: int | None = None,
    ) -> AsyncIterator[Event]:
        """See `Cairn.ask_stream`."""
        call = calls.ask(
            collection,
            question,
            limit,
            filter,
            retrieval=retrieval,
            conversation_id=conversation_id,
            max_sentences=max_sentences,
            stream=True,
        )
        parser = EventParser()
        with _transport(self._url):
            async with self._http.stream(call.method, call.path, json=call.body) as response:
                if not response.is_success:
                    raise from_response(response.status_code, await response.aread())
                async for chunk in response.aiter_bytes():
                    for event in calls.events(parser, chunk):
                        yield event
                        if isinstance(event, Done):
                            return
        raise calls.cut_off()

    async def embed(self, texts: Sequence[str], model: str | None = None) -> list[list[float]]:
        """See `Cairn.embed`."""
        return await self._send(calls.embed(texts, model))

    async def health(self) -> bool:
        """See `Cairn.health`."""
        return await self._send(calls.health())

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncCairn:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _send(self, call: Call[T]) -> T:
        with _transport(self._url):
            response = await self._http.request(
                call.method, call.path, json=call.body, files=call.parts
            )
        return call.result(response.status_code, response.content)


def _headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"api-key": api_key}


@contextmanager
def _transport(url: str) -> Iterator[None]:
    """Turns a failure to talk to the server into a `CairnError`."""
    try:
        yield
    except httpx.TransportError as error:
        raise from_transport(url, error) from error
