"""The official openai SDK, unmodified: files, vector stores and responses."""

import io
import json
import time

import httpx
import openai
import pytest

RULES = "# Rules\n\nEvery stone is placed by hand.\n\n## Rain\n\nIn heavy rain the path over the ridge is closed.\n"
HUTS = "# Huts\n\nThe hut at the lake has twelve beds.\n\nSoup is served until nine in the evening.\n"
QUESTION = "When is the path over the ridge closed?"


@pytest.fixture(scope="module")
def sdk(server, model):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300) as sdk:
        yield sdk


@pytest.fixture(scope="module")
def store(sdk):
    """A store with two files, added by the SDK's own helpers."""
    store = sdk.vector_stores.create(name="handbook", metadata={"team": "paths"})
    first = sdk.files.create(file=("rules.md", io.BytesIO(RULES.encode())), purpose="assistants")
    added = sdk.vector_stores.files.create_and_poll(
        first.id, vector_store_id=store.id, attributes={"year": 2024, "lang": "en"}
    )
    assert added.status == "completed", added.last_error
    added = sdk.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("huts.md", io.BytesIO(HUTS.encode())), attributes={"year": 2020}
    )
    assert added.status == "completed", added.last_error
    yield store
    assert sdk.vector_stores.delete(store.id).deleted


def test_a_file_is_kept_as_it_was_uploaded(sdk):
    file = sdk.files.create(file=("notes.txt", b"\x00raw bytes"), purpose="user_data")
    assert (file.filename, file.bytes, file.purpose, file.object) == ("notes.txt", 10, "user_data", "file")
    assert sdk.files.content(file.id).read() == b"\x00raw bytes"
    assert file.id in [one.id for one in sdk.files.list(purpose="user_data")]
    assert sdk.files.retrieve(file.id) == file
    assert sdk.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match=file.id):
        sdk.files.retrieve(file.id)


def test_lists_come_in_pages(sdk):
    made = [sdk.files.create(file=(f"{n}.md", b"text"), purpose="pages").id for n in range(5)]
    listed = [file.id for file in sdk.files.list(purpose="pages", limit=2)]  # the SDK follows the pages
    assert sorted(listed) == sorted(made)
    forward = [file.id for file in sdk.files.list(purpose="pages", limit=2, order="asc")]
    assert forward == listed[::-1]
    for id in made:
        sdk.files.delete(id)


def test_a_store_counts_its_files_and_is_a_collection(sdk, store, qdrant):
    there = sdk.vector_stores.retrieve(store.id)
    assert (there.name, there.metadata, there.status) == ("handbook", {"team": "paths"}, "completed")
    assert (there.file_counts.completed, there.file_counts.total) == (2, 2)
    assert there.usage_bytes > 0
    assert store.id in [one.id for one in sdk.vector_stores.list()]
    assert qdrant.count(store.id).count >= 2
    changed = sdk.vector_stores.update(store.id, name="hand book", expires_after={"anchor": "last_active_at", "days": 3})
    assert changed.name == "hand book" and changed.metadata == {"team": "paths"}
    assert changed.expires_at - changed.last_active_at == 3 * 86_400


def test_files_of_a_store_have_attributes_and_text(sdk, store):
    files = {file.attributes["year"]: file for file in sdk.vector_stores.files.list(store.id, order="asc")}
    assert set(files) == {2024, 2020}
    rules = files[2024]
    assert rules.attributes == {"year": 2024, "lang": "en"}
    assert [file.id for file in sdk.vector_stores.files.list(store.id, filter="failed")] == []
    [page] = sdk.vector_stores.files.content(rules.id, vector_store_id=store.id).data
    assert "In heavy rain the path over the ridge is closed." in page.text
    changed = sdk.vector_stores.files.update(
        rules.id, vector_store_id=store.id, attributes={"year": 2024, "lang": "en", "seen": True}
    )
    assert changed.attributes["seen"] is True
    again = sdk.vector_stores.files.retrieve(rules.id, vector_store_id=store.id)
    assert again.attributes["seen"] is True


def search(sdk, store, query, **more):
    return list(sdk.vector_stores.search(store.id, query=query, **more))


def test_a_search_finds_passages_with_their_files(sdk, store):
    found = search(sdk, store, QUESTION, max_num_results=3)
    assert found[0].filename == "rules.md" and found[0].attributes["year"] == 2024
    assert "ridge is closed" in found[0].content[0].text
    assert found == sorted(found, key=lambda hit: -hit.score)
    several = search(sdk, store, [QUESTION, "How many beds are there?"], max_num_results=2)
    assert {hit.filename for hit in several} == {"rules.md", "huts.md"}


@pytest.mark.parametrize(
    ("filters", "files"),
    [
        ({"type": "eq", "key": "year", "value": 2020}, {"huts.md"}),
        ({"type": "gt", "key": "year", "value": 2020}, {"rules.md"}),
        ({"type": "ne", "key": "lang", "value": "en"}, {"huts.md"}),
        ({"type": "in", "key": "year", "value": [2020, 2024]}, {"huts.md", "rules.md"}),
        (
            {
                "type": "and",
                "filters": [
                    {"type": "gte", "key": "year", "value": 2020},
                    {"type": "eq", "key": "lang", "value": "en"},
                ],
            },
            {"rules.md"},
        ),
        (
            {
                "type": "or",
                "filters": [
                    {"type": "lt", "key": "year", "value": 2021},
                    {"type": "eq", "key": "lang", "value": "de"},
                ],
            },
            {"huts.md"},
        ),
    ],
)
def test_a_filter_chooses_files_by_their_attributes(sdk, store, filters, files):
    assert {hit.filename for hit in search(sdk, store, "path hut rain", filters=filters)} == files


def test_ranking_options_cut_and_weigh(sdk, store):
    everything = search(sdk, store, QUESTION)
    best = everything[0].score
    few = search(sdk, store, QUESTION, ranking_options={"ranker": "none", "score_threshold": best * 0.99})
    assert 0 < len(few) < len(everything)
    with pytest.raises(openai.BadRequestError, match="max_num_results"):
        search(sdk, store, QUESTION, max_num_results=51)


def test_a_batch_reports_what_could_not_be_read(sdk):
    store = sdk.vector_stores.create(name="batch")
    good = [sdk.files.create(file=(f"{n}.md", f"Stone {n} is round.".encode()), purpose="assistants").id for n in range(4)]
    broken = sdk.files.create(file=("broken.pdf", b"%PDF-1.7 nothing"), purpose="assistants").id
    batch = sdk.vector_stores.file_batches.create_and_poll(store.id, file_ids=[*good, broken])
    assert batch.status == "completed"
    assert (batch.file_counts.completed, batch.file_counts.failed, batch.file_counts.total) == (4, 1, 5)
    [failed] = sdk.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="failed")
    assert failed.id == broken and failed.last_error.code == "invalid_file"
    assert sdk.vector_stores.retrieve(store.id).file_counts.failed == 1
    assert sdk.vector_stores.files.delete(good[0], vector_store_id=store.id).deleted
    left = {file.id for file in sdk.vector_stores.files.list(store.id, filter="completed")}
    assert left == set(good[1:])
    assert sdk.files.retrieve(good[0]).id == good[0], "the uploaded file stays"
    sdk.vector_stores.delete(store.id)
    with pytest.raises(openai.NotFoundError):
        sdk.vector_stores.retrieve(store.id)


def test_a_batch_can_be_cancelled(sdk):
    files = [
        sdk.files.create(file=(f"{n}.md", ("# Part\n\nA long text about stones.\n\n" * 400).encode()), purpose="x").id
        for n in range(6)
    ]
    store = sdk.vector_stores.create(name="cancelled")
    batch = sdk.vector_stores.file_batches.create(store.id, file_ids=files)
    batch = sdk.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    deadline = time.monotonic() + 120
    while batch.file_counts.in_progress and time.monotonic() < deadline:
        time.sleep(0.2)
        batch = sdk.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store.id)
    assert batch.status == "cancelled" and batch.file_counts.cancelled >= 1
    assert batch.file_counts.cancelled + batch.file_counts.completed == 6
    sdk.vector_stores.delete(store.id)


def test_a_response_cites_files(sdk, store):
    done = sdk.responses.create(
        model="cairn",
        input=QUESTION,
        tools=[{"type": "file_search", "vector_store_ids": [store.id], "max_num_results": 4}],
        include=["file_search_call.results"],
    )
    call, message = done.output
    assert call.type == "file_search_call" and call.status == "completed" and call.queries == [QUESTION]
    assert 0 < len(call.results) <= 4 and "rules.md" in {result.filename for result in call.results}
    assert "heavy rain" in done.output_text
    note = message.content[0].annotations[0]
    assert note.type == "file_citation" and note.filename == "rules.md"
    assert note.quote in RULES and RULES[note.start : note.end] == note.quote
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
    assert sdk.responses.retrieve(done.id).output_text == done.output_text
    [item] = sdk.responses.input_items.list(done.id)
    assert item.content[0].text == QUESTION
    sdk.responses.delete(done.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(done.id)


def test_a_response_goes_on_from_the_one_before(sdk, store):
    model = f"cairn/{store.id}"
    first = sdk.responses.create(model=model, input="Where is the hut with twelve beds?")
    assert "lake" in first.output_text
    second = sdk.responses.create(model=model, input="And when is soup served there?", previous_response_id=first.id)
    assert "nine" in second.output_text and second.previous_response_id == first.id
    alone = sdk.responses.create(model=model, input=[{"role": "user", "content": QUESTION}], store=False)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(alone.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.create(model=model, input="And then?", previous_response_id=alone.id)


def test_a_streamed_response_says_the_same_in_the_order_of_the_protocol(sdk, store):
    model = f"cairn/{store.id}"
    whole = sdk.responses.create(model=model, input=QUESTION)
    with sdk.responses.stream(model=model, input=QUESTION) as stream:
        events = list(stream)
        done = stream.get_final_response()
    assert done.output_text == whole.output_text
    assert done.output[1].content[0].annotations == whole.output[1].content[0].annotations
    kinds = [event.type for event in events]
    order = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    seen = [kind for place, kind in enumerate(kinds) if place == 0 or kind != kinds[place - 1]]
    assert seen == order
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text


def test_mistakes_are_told_in_the_shape_of_the_sdk(sdk, store):
    with pytest.raises(openai.NotFoundError):
        sdk.vector_stores.retrieve("vs_none")
    with pytest.raises(openai.NotFoundError, match="file-none"):
        sdk.vector_stores.files.create(store.id, file_id="file-none")
    with pytest.raises(openai.NotFoundError):
        sdk.responses.create(model="gpt-x", input="Hello?")
    with pytest.raises(openai.BadRequestError, match="attributes"):
        file = sdk.files.create(file=("a.md", b"text"), purpose="assistants")
        sdk.vector_stores.files.create(store.id, file_id=file.id, attributes={str(n): n for n in range(17)})
    with pytest.raises(openai.BadRequestError, match="one store"):
        tools = [{"type": "file_search", "vector_store_ids": [store.id, store.id]}]
        sdk.responses.create(model="cairn", input="Hello?", tools=tools)


def test_files_and_responses_survive_a_restart(new_server, model):
    service = new_server().start()
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=300) as sdk:
        store = sdk.vector_stores.create(name="kept")
        sdk.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("huts.md", HUTS.encode()))
        answer = sdk.responses.create(model=f"cairn/{store.id}", input="How many beds has the hut at the lake?")
    service.kill9()
    service.start()
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=300) as sdk:
        [file] = sdk.vector_stores.files.list(store.id)
        assert sdk.files.content(file.id).read() == HUTS.encode()
        assert sdk.responses.retrieve(answer.id).output_text == answer.output_text
        assert sdk.vector_stores.retrieve(store.id).name == "kept"


def sizes(size, overlap):
    return {"type": "static", "static": {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}}


def plain(strategy):
    return strategy.model_dump(exclude_none=True)


STONES = " ".join(f"Stone number {n} lies on the northern side of the path over the ridge." for n in range(80))


def test_a_chunking_strategy_cuts_the_file_and_no_other(sdk, qdrant):
    store = sdk.vector_stores.create(name="cut")
    file = sdk.files.create(file=("stones.md", STONES.encode()), purpose="assistants").id

    def added(**more):
        before = sdk.vector_stores.files.create_and_poll(file, vector_store_id=store.id, **more)
        assert before.status == "completed", before.last_error
        [listed] = sdk.vector_stores.files.list(store.id)
        assert listed.chunking_strategy == before.chunking_strategy
        return qdrant.count(store.id).count, plain(before.chunking_strategy)

    usual, told = added()
    assert told["type"] == "static" and told["static"]["chunk_overlap_tokens"] == 0
    small, told = added(chunking_strategy=sizes(100, 25))
    assert small > usual and told == sizes(100, 25)
    assert added(chunking_strategy={"type": "auto"})[0] == usual
    batch = sdk.vector_stores.file_batches.create_and_poll(
        store.id, file_ids=[file], chunking_strategy=sizes(100, 25)
    )
    assert batch.file_counts.completed == 1 and qdrant.count(store.id).count == small
    sdk.vector_stores.delete(store.id)


def test_a_store_cuts_its_files_as_it_was_made_to(sdk):
    file = sdk.files.create(file=("stones.md", STONES.encode()), purpose="assistants").id
    store = sdk.vector_stores.create(name="small", chunking_strategy=sizes(120, 60))
    added = sdk.vector_stores.files.create_and_poll(file, vector_store_id=store.id)
    assert plain(added.chunking_strategy) == sizes(120, 60)
    sdk.vector_stores.delete(store.id)


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        (sizes(99, 0), "from 100 to 4096, got 99"),
        (sizes(4097, 0), "from 100 to 4096, got 4097"),
        (sizes(200, 101), "from 0 to 100, half of max_chunk_size_tokens, got 101"),
        ({"type": "static"}, "max_chunk_size_tokens"),
        ({"type": "sentences"}, "auto or static"),
    ],
)
def test_a_chunking_strategy_that_cannot_be_is_refused(sdk, store, strategy, told):
    file = sdk.files.create(file=("a.md", b"text"), purpose="assistants").id
    for refused in (
        lambda: sdk.vector_stores.create(chunking_strategy=strategy),
        lambda: sdk.vector_stores.files.create(store.id, file_id=file, chunking_strategy=strategy),
        lambda: sdk.vector_stores.file_batches.create(store.id, file_ids=[file], chunking_strategy=strategy),
    ):
        with pytest.raises(openai.BadRequestError, match=told):
            refused()
    sdk.files.delete(file)


def test_a_file_that_is_added_again_unchanged_is_not_written_again(sdk, http):
    store = sdk.vector_stores.create(name="again")
    file = sdk.files.create(file=("huts.md", HUTS.encode()), purpose="assistants").id

    def seq_after(attributes):
        sdk.vector_stores.files.create_and_poll(file, vector_store_id=store.id, attributes=attributes)
        found = http.post(f"/collections/{store.id}/search", json={"query": "soup"}).json()["result"]
        return found["seq"], found["hits"][0]["metadata"]["year"]

    first = seq_after({"year": 1})
    assert seq_after({"year": 1}) == first
    assert seq_after({"year": 2}) == (first[0] + 1, 2)
    sdk.vector_stores.delete(store.id)


def client(service):
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=300)


def test_what_failed_and_what_was_in_progress_is_known_after_a_crash(new_server, model):
    service = new_server().start()
    with client(service) as sdk:
        store = sdk.vector_stores.create(name="crashed").id
        broken = sdk.files.create(file=("broken.pdf", b"%PDF-1.7 nothing"), purpose="assistants").id
        failed = sdk.vector_stores.file_batches.create_and_poll(store, file_ids=[broken])
        assert failed.status == "failed"
        files = [
            sdk.files.create(file=(f"{n}.md", f"Batch {n}. {STONES}".encode()), purpose="assistants").id
            for n in range(30)
        ]
        going = sdk.vector_stores.file_batches.create(store, file_ids=files)
        assert going.file_counts.in_progress > 0
    service.kill9()
    service.start()
    with client(service) as sdk:
        again = sdk.vector_stores.file_batches.retrieve(failed.id, vector_store_id=store)
        assert again == failed
        [file] = sdk.vector_stores.files.list(store, filter="failed")
        assert file.id == broken and file.last_error.code == "invalid_file" and file.last_error.message
        done = sdk.vector_stores.file_batches.poll(going.id, vector_store_id=store, poll_interval_ms=100)
        assert (done.status, done.file_counts.completed, done.file_counts.total) == ("completed", 30, 30)
        counts = sdk.vector_stores.retrieve(store).file_counts
        assert (counts.completed, counts.failed, counts.total) == (30, 1, 31)


def test_a_cancelled_batch_stays_cancelled_over_a_restart(new_server, model):
    service = new_server().start()
    with client(service) as sdk:
        store = sdk.vector_stores.create(name="cancelled").id
        files = [
            sdk.files.create(file=(f"{n}.md", f"Batch {n}. {STONES}".encode()), purpose="assistants").id
            for n in range(12)
        ]
        batch = sdk.vector_stores.file_batches.create(store, file_ids=files).id
        sdk.vector_stores.file_batches.cancel(batch, vector_store_id=store)
    service.restart()
    with client(service) as sdk:
        done = sdk.vector_stores.file_batches.poll(batch, vector_store_id=store, poll_interval_ms=100)
        assert done.status == "cancelled" and done.file_counts.cancelled >= 1
        assert done.file_counts.cancelled + done.file_counts.completed == 12


def test_an_expired_store_is_refused_everywhere_until_it_is_given_more_time(new_server, model):
    service = new_server().start()
    with client(service) as sdk:
        store = sdk.vector_stores.create(
            name="expired", expires_after={"anchor": "last_active_at", "days": 2}
        ).id
        sdk.vector_stores.files.upload_and_poll(vector_store_id=store, file=("huts.md", HUTS.encode()))
    service.stop()
    [used] = (service.data_dir / "vector_stores" / "uses").glob("*.json")
    used.write_text(json.dumps({"store": store, "at": int(time.time()) - 3 * 86_400}))
    service.start()
    url = f"{service.url}/collections/{store}"
    with client(service) as sdk, httpx.Client(timeout=60) as http:
        assert sdk.vector_stores.retrieve(store).status == "expired"
        question = [{"role": "user", "content": "How many beds has the hut?"}]
        for refused in (
            lambda: sdk.vector_stores.search(store, query="beds"),
            lambda: sdk.chat.completions.create(model=f"cairn/{store}", messages=question),
            lambda: sdk.responses.create(model=f"cairn/{store}", input="How many beds has the hut?"),
        ):
            with pytest.raises(openai.NotFoundError, match="expires_after"):
                refused()
        for path, body in [
            ("search", {"query": "beds"}),
            ("ask", {"question": "How many beds has the hut?"}),
            ("ask", {"question": "How many beds has the hut?", "stream": True}),
        ]:
            answer = http.post(f"{url}/{path}", json=body)
            assert answer.status_code == 404 and "expires_after" in answer.text
        refused = http.put(f"{url}/documents", json={"documents": [{"id": "a", "text": "More."}]})
        assert refused.status_code == 404
        assert sdk.vector_stores.update(store, expires_after=None).status == "completed"
        assert "twelve" in sdk.chat.completions.create(model=f"cairn/{store}", messages=question).choices[0].message.content
