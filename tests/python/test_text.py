"""Documents in, passages and cited answers out, through our Python client."""

import asyncio

import handbook
import httpx
import pytest
from cairn_client import AsyncCairn, Cairn, CairnError, Cited, Delta, Document, Done, Retrieved

MARKDOWN = """\
# Waymarks 🧭

Stones and paint show the way. Çà et là, *naïve* walkers get lost.

## Cairns

A cairn is a heap of stones that marks a mountain path. In fog 🌫️ the next cairn is \
visible from the last one. Builders place the largest stones at the bottom.

## Blazes

A blaze is a spot of paint on a tree. The Appalachian Trail is marked with white blazes.

### Colours

Side trails to water are marked with blue blazes. 👩‍🚀 Nobody marks trails in space.
"""

SOURCES = {
    "waymarks": MARKDOWN,
    "lamps": "A Fresnel lens gathers the light of a lamp into a strong beam. "
    "The lighthouse of Cordouan had the first one, in 1823. 灯台は海を照らす。",
    "bread": "Sourdough bread rises without added yeast. The baker feeds a starter with flour "
    "and water every day, and the dough rests for twelve hours before it is baked.",
}


def documents():
    return [
        Document(id, text, title=f"About {id}", metadata={"lang": "en", "about": id, "size": len(text)})
        for id, text in SOURCES.items()
    ]


@pytest.fixture
def filled(cairn, collection):
    cairn.add_documents(collection, documents(), format="markdown")
    return collection


@pytest.fixture(scope="module")
def handbook_collection(server, model):
    """The judged set, indexed once for the tests that only read it."""
    name = "test-handbook"
    with Cairn(server.url, timeout=300) as cairn:
        rows = [Document(row["_id"], row["text"], title=row["title"]) for row in handbook.corpus()]
        added = cairn.add_documents(name, rows, format="text")
        assert added.documents == len(rows)
    yield name
    httpx.delete(f"{server.url}/collections/{name}", timeout=60)


def assert_quoted(citations):
    for citation in citations:
        source = SOURCES[citation.document_id]
        assert 0 <= citation.start < citation.end <= len(source)
        assert citation.quote == source[citation.start : citation.end]
        assert citation.title == f"About {citation.document_id}"


def test_adding_counts_documents_passages_and_tokens(cairn, collection, qdrant):
    added = cairn.add_documents(collection, documents(), format="markdown")
    assert added.documents == 3
    assert added.passages >= 3
    assert 150 < added.tokens < 600
    assert qdrant.count(collection).count == added.passages


def test_a_passage_is_a_span_of_the_source_counted_in_characters(cairn, filled):
    hits = cairn.search(filled, "heaps of stones on mountain paths", limit=100)
    assert {hit.document_id for hit in hits} == set(SOURCES)
    for hit in hits:
        assert hit.text == SOURCES[hit.document_id][hit.start : hit.end]
        assert hit.title == f"About {hit.document_id}"
        assert hit.metadata["about"] == hit.document_id
    assert hits[0].document_id == "waymarks"
    assert "heap of stones" in hits[0].text
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_markdown_passage_knows_the_headings_above_it(cairn, collection):
    padding = "The path is long and the hut is far, so walkers start early in the day. " * 30
    text = f"# Walking\n\n{padding}\n\n## Stones\n\n{padding}\n\n### Colour\n\nRed granite is rare."
    cairn.add_documents(collection, [Document("walk", text)], format="markdown")
    [hit] = cairn.search(collection, "which colour of granite is rare?", limit=1)
    assert "Red granite" in hit.text
    assert hit.heading == ("Walking", "Stones", "Colour")
    for hit in cairn.search(collection, "walkers", limit=100):
        assert hit.heading[:1] == ("Walking",)
        assert hit.text == text[hit.start : hit.end]


def test_plain_text_is_not_read_as_markdown(cairn, collection):
    text = "# not a heading, but a number sign\n\n* not a list, but a star"
    cairn.add_documents(collection, [Document("plain", text)], format="text")
    [hit] = cairn.search(collection, "number sign and star")
    assert (hit.heading, hit.text) == ((), text)


def test_search_keeps_to_the_limit_and_the_filter(cairn, filled):
    assert len(cairn.search(filled, "stones", limit=2)) == 2
    only_bread = {"must": [{"key": "metadata.about", "match": {"value": "bread"}}]}
    assert {h.document_id for h in cairn.search(filled, "stones", filter=only_bread)} == {"bread"}
    large = {"must": [{"key": "metadata.size", "range": {"gte": len(MARKDOWN)}}]}
    assert {h.document_id for h in cairn.search(filled, "bread", filter=large)} == {"waymarks"}


@pytest.mark.parametrize(
    ("question", "document", "words"),
    [
        ("What is a cairn?", "waymarks", "heap of stones"),
        ("Which blazes mark side trails to water?", "waymarks", "blue blazes"),
        ("Where was the first Fresnel lens?", "lamps", "Cordouan"),
        ("How long does sourdough rest before it is baked?", "bread", "twelve hours"),
    ],
)
def test_an_answer_quotes_the_sources_word_for_word(cairn, filled, question, document, words):
    answer = cairn.ask(filled, question)
    assert (answer.refused, answer.reason, answer.generator) == (False, None, "extractive")
    assert words in answer.answer
    assert document in {citation.document_id for citation in answer.citations}
    assert_quoted(answer.citations)


def test_a_question_that_nothing_supports_is_refused_with_the_reason(cairn, filled):
    answer = cairn.ask(filled, "Which enzyme unwinds DNA during replication?")
    assert answer.refused
    assert answer.reason
    assert answer.citations == ()


def test_a_filter_keeps_an_answer_from_documents_that_were_not_asked(cairn, filled):
    only_bread = {"must": [{"key": "metadata.about", "match": {"value": "bread"}}]}
    answer = cairn.ask(filled, "What is a cairn?", filter=only_bread)
    assert {citation.document_id for citation in answer.citations} <= {"bread"}


def test_a_stream_tells_the_same_answer_in_order(cairn, filled):
    question = "What is a cairn, and what marks the Appalachian Trail?"
    events = list(cairn.ask_stream(filled, question))
    kinds = [type(event) for event in events]
    deltas = kinds.count(Delta)
    cited = kinds.count(Cited)
    # Each citation follows the piece of the answer it belongs to.
    assert kinds == [Retrieved, *[Delta, Cited] * cited, Done]
    assert deltas >= 1 and cited >= 1
    assert events[0].passages
    answer = events[-1].answer
    assert "".join(event.text for event in events if isinstance(event, Delta)) == answer.answer
    assert tuple(event.citation for event in events if isinstance(event, Cited)) == answer.citations
    assert_quoted(answer.citations)
    assert answer == cairn.ask(filled, question)


def test_a_stream_can_also_be_asked_for_with_an_accept_header(http, filled):
    headers = {"accept": "text/event-stream"}
    response = http.post(f"/collections/{filled}/ask", json={"question": "What is a cairn?"}, headers=headers)
    assert response.headers["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in response.text.splitlines() if line.startswith("event")]
    assert (names[0], names[-1]) == ("retrieval", "done")


def test_a_stream_of_a_refusal_ends_with_done(cairn, filled):
    events = list(cairn.ask_stream(filled, "Which enzyme unwinds DNA during replication?"))
    assert isinstance(events[-1], Done)
    assert events[-1].answer.refused
    assert not any(isinstance(event, Cited) for event in events)


def test_a_document_added_again_replaces_the_old_one(cairn, collection, qdrant):
    long = "The old text speaks of lighthouses and lamps. " * 200
    before = cairn.add_documents(collection, [Document("a", long), Document("b", SOURCES["bread"])])
    assert before.passages > 3
    after = cairn.add_documents(collection, [Document("a", "The new text speaks of maps.")])
    assert after.passages == 1
    hits = cairn.search(collection, "lighthouses and lamps", limit=100)
    assert not any("lighthouses" in hit.text for hit in hits)
    assert sorted(hit.document_id for hit in hits) == ["a", *["b"] * (len(hits) - 1)]
    assert qdrant.count(collection).count == len(hits)


def test_a_deleted_document_is_gone_from_search_and_answers(cairn, filled, qdrant):
    before = qdrant.count(filled).count
    deleted = cairn.delete_document(filled, "waymarks")
    assert deleted >= 1
    assert qdrant.count(filled).count == before - deleted
    assert cairn.delete_document(filled, "waymarks") == 0
    hits = cairn.search(filled, "What is a cairn?", limit=100)
    assert {hit.document_id for hit in hits} == {"lamps", "bread"}


def test_a_document_id_may_be_any_string(cairn, collection):
    ids = ["docs/intro.md", "a b?c#d%e", "ключ 🧭", "x" * 200]
    cairn.add_documents(collection, [Document(id, f"This is text number {n}.") for n, id in enumerate(ids)])
    assert {hit.document_id for hit in cairn.search(collection, "text number")} == set(ids)
    for id in ids:
        assert cairn.delete_document(collection, id) == 1
    assert cairn.search(collection, "text number") == []


def test_documents_survive_a_restart(new_server, model):
    server = new_server().start()
    with Cairn(server.url, timeout=300) as cairn:
        cairn.add_documents("docs", documents(), format="markdown")
        before = cairn.ask("docs", "What is a cairn?")
        hits = cairn.search("docs", "light", limit=5)
        server.restart()
        assert cairn.ask("docs", "What is a cairn?") == before
        assert cairn.search("docs", "light", limit=5) == hits
    assert_quoted(before.citations)


def test_embeddings_are_those_of_the_openai_endpoint(cairn, http, model):
    texts = ["a heap of stones", "eine Karte 🗺️"]
    ours = cairn.embed(texts)
    body = {"model": model, "input": texts, "encoding_format": "float"}
    theirs = [row["embedding"] for row in http.post("/v1/embeddings", json=body).json()["data"]]
    for our, their in zip(ours, theirs, strict=True):
        assert our == pytest.approx(their, abs=1e-6)


def test_the_async_client_gets_the_same_answer(server, cairn, filled):
    async def ask():
        async with AsyncCairn(server.url, timeout=300) as client:
            assert await client.health() is True
            question = "What is a cairn?"
            events = [event async for event in client.ask_stream(filled, question)]
            return await client.ask(filled, question), events

    answer, events = asyncio.run(ask())
    assert answer == events[-1].answer == cairn.ask(filled, "What is a cairn?")


def test_an_unknown_collection_is_not_found(cairn):
    for call in (cairn.search, cairn.ask):
        with pytest.raises(CairnError, match="Collection `nowhere` doesn't exist") as error:
            call("nowhere", "what?")
        assert error.value.status == 404


def test_the_handbook_is_found(cairn, handbook_collection, capsys):
    qrels = handbook.qrels()
    found, gains = 0, []
    for query in handbook.queries():
        hits = cairn.search(handbook_collection, query["text"], limit=30)
        ranking = list(dict.fromkeys(hit.document_id for hit in hits))
        relevant = qrels[query["_id"]]
        found += any(id in relevant for id in ranking[:5])
        gains.append(handbook.ndcg(ranking, relevant))
    with capsys.disabled():
        print(f"\nhandbook: in top 5 {found}/{len(gains)}, nDCG@10 {sum(gains) / len(gains):.4f}")
    assert found >= 0.9 * len(gains)


def test_the_handbook_is_answered_from_its_own_words(cairn, handbook_collection, capsys):
    texts = {row["_id"]: row["text"] for row in handbook.corpus()}
    qrels = handbook.qrels()
    answered = right = cited = 0
    for query in handbook.queries():
        answer = cairn.ask(handbook_collection, query["text"])
        answered += not answer.refused
        right += any(words in answer.answer for words in query["answers"])
        cited += any(citation.document_id in qrels[query["_id"]] for citation in answer.citations)
        for citation in answer.citations:
            assert citation.quote == texts[citation.document_id][citation.start : citation.end]
    refused = sum(cairn.ask(handbook_collection, question).refused for question in handbook.unanswerable())
    with capsys.disabled():
        print(
            f"\nhandbook: answered {answered}/60, answer words in the text {right}/60, "
            f"relevant document cited {cited}/60, unanswerable refused {refused}/12"
        )
    assert answered >= 54
    assert cited >= 48
    # Half of these questions are far from every text, half are near misses.
    assert refused >= 6
