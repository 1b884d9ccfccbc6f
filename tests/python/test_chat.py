"""The official openai SDK, unmodified, asks a collection of documents."""

import openai
import pytest

DOCUMENTS = [
    {"id": "ops/backups.md", "title": "Backups", "text": "# Backups\n\nThe database is copied to tape every Friday.\n"},
    {
        "id": "lunch",
        "title": "Lunch",
        "text": "The canteen serves soup on Mondays.",
        "metadata": {"url": "https://example.org/lunch"},
    },
]
QUESTION = {"role": "user", "content": "When is the database copied to tape?"}


@pytest.fixture(scope="module")
def notes(server, model):
    import httpx

    body = {"documents": DOCUMENTS}
    done = httpx.put(f"{server.url}/collections/chat-notes/documents", json=body, timeout=300)
    assert done.status_code == 200, done.text
    yield "cairn/chat-notes"
    httpx.delete(f"{server.url}/collections/chat-notes", timeout=60)


@pytest.fixture
def sdk(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300) as sdk:
        yield sdk


def test_a_collection_is_a_model_whose_answer_names_its_sources(sdk, notes):
    assert notes in [model.id for model in sdk.models.list()]
    done = sdk.chat.completions.create(model=notes, messages=[QUESTION])
    [choice] = done.choices
    assert "Friday" in choice.message.content and choice.finish_reason == "stop"
    [note] = choice.message.annotations
    place = note.url_citation
    assert "tape every Friday" in choice.message.content[place.start_index : place.end_index]
    assert place.title == "Backups" and place.url.startswith("cairn://chat%2Dnotes/ops%2Fbackups%2Emd#char=")
    start, end = map(int, place.url.split("#char=")[1].split(","))
    [citation] = done.context["citations"]
    assert DOCUMENTS[0]["text"][start:end] == citation["quote"]
    assert 0 < done.usage.completion_tokens < 40
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens


def test_a_document_with_an_address_is_cited_by_it(sdk, notes):
    done = sdk.chat.completions.create(
        model=notes, messages=[{"role": "user", "content": "What does the canteen serve on Mondays?"}]
    )
    assert done.choices[0].message.annotations[0].url_citation.url.startswith("https://example.org/lunch#char=")


def test_a_stream_says_the_same_with_its_sources_first_and_its_usage_last(sdk, notes):
    whole = sdk.chat.completions.create(model=notes, messages=[QUESTION])
    stream = sdk.chat.completions.create(
        model=notes, messages=[QUESTION], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "Friday" in chunks[0].context["passages"][0]["text"]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    last = chunks[-1]
    assert last.choices == [] and last.usage.total_tokens == whole.usage.total_tokens


def test_what_was_said_before_makes_the_next_question_whole(sdk, notes):
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What does the canteen serve?"},
        {"role": "assistant", "content": "Soup."},
        {"role": "user", "content": [{"type": "text", "text": "And when does it serve it?"}]},
    ]
    done = sdk.chat.completions.create(model=notes, messages=history)
    assert "Mondays" in done.choices[0].message.content


def test_what_the_documents_do_not_say_is_refused_in_words(sdk, notes):
    question = {"role": "user", "content": "Who won the chess championship of 1972?"}
    done = sdk.chat.completions.create(model=notes, messages=[question])
    assert done.context["refused"] and not done.choices[0].message.annotations


def test_file_search_names_a_collection_too(sdk, notes):
    tool = {"type": "file_search", "vector_store_ids": ["chat-notes"]}
    done = sdk.chat.completions.create(model="any", messages=[QUESTION], tools=[tool])
    assert "Friday" in done.choices[0].message.content


def test_errors_come_in_the_shape_of_the_sdk(sdk, notes):
    with pytest.raises(openai.NotFoundError, match="cairn/chat-notes"):
        sdk.chat.completions.create(model="cairn/gone", messages=[QUESTION])
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        sdk.chat.completions.create(model="gpt-9", messages=[QUESTION])
    with pytest.raises(openai.BadRequestError, match="end with a question"):
        sdk.chat.completions.create(model=notes, messages=[])
    with pytest.raises(openai.BadRequestError, match="n must be 1"):
        sdk.chat.completions.create(model=notes, messages=[QUESTION], n=2)
