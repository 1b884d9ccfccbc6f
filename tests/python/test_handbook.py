"""The judged set in tests/data/handbook is sound. Needs no server."""

import handbook


def test_every_id_is_used_once_and_every_judgement_names_real_ones():
    corpus, queries, qrels = handbook.corpus(), handbook.queries(), handbook.qrels()
    assert len({row["_id"] for row in corpus}) == len(corpus) == 48
    assert len({row["_id"] for row in queries}) == len(queries) == 60
    assert set(qrels) == {row["_id"] for row in queries}
    assert {id for judged in qrels.values() for id in judged} <= {row["_id"] for row in corpus}


def test_every_answer_stands_word_for_word_in_a_relevant_document():
    texts = {row["_id"]: row["text"] for row in handbook.corpus()}
    qrels = handbook.qrels()
    for query in handbook.queries():
        relevant = [texts[id] for id in qrels[query["_id"]]]
        assert all(any(answer in text for text in relevant) for answer in query["answers"]), query
        assert all(any(answer in text for answer in query["answers"]) for text in relevant), query


def test_documents_are_short_enough_for_one_passage():
    for row in handbook.corpus():
        assert 60 <= len(row["text"].split()) <= 140, row["_id"]
