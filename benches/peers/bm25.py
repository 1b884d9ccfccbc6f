"""Keyword search in bm25s and tantivy, as `bm25` asks for it.

The folder given holds task.json; answers.json comes to lie beside it. bm25s is
timed twice: a query at a time, and all queries in one call, which it is made
for; there the time of a query is its share. tantivy has one segment, in which
the number of a document is its place, so no document is loaded.
"""

import json
import pathlib
import re
import sys
import time
from importlib.metadata import version

import bm25s
import numpy as np
import Stemmer
import tantivy

NO_WORD = re.compile(r"\W+")


def timed(search, queries, rounds):
    """What is found for each query, and the time of every call."""
    ids, micros = [search(query) for query in queries], []
    for query in queries * rounds:
        started = time.perf_counter()
        search(query)
        micros.append((time.perf_counter() - started) * 1e6)
    return ids, micros


def bm25s_index(task):
    stemmer = Stemmer.Stemmer("english")
    backend = "numba"
    try:
        import numba

        numba.set_num_threads(1)
    except ImportError:
        backend = "numpy"

    def tokens(texts):
        return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)

    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend=backend)
    index.index(tokens(task["documents"]), show_progress=False)
    mask = np.array([part == task["part"] for part in task["parts"]], dtype=np.float32)
    return index, tokens, mask, f"bm25s {version('bm25s')}, {backend}"


def run_bm25s(task):
    index, tokens, mask, system = bm25s_index(task)
    queries = task["queries"]
    for case in task["cases"]:
        k = min(case["k"], len(task["documents"]))
        weights = mask if case["filtered"] else None

        def search_all(texts, k=k, weights=weights):
            found = index.retrieve(
                tokens(texts), k=k, show_progress=False, n_threads=1, weight_mask=weights
            )
            # What has no score was not found.
            kept = zip(found.documents, found.scores)
            return [documents[scores > 0].tolist() for documents, scores in kept]

        ids, micros = timed(lambda query: search_all([query])[0], queries, task["rounds"])
        yield {"system": system, "case": case["name"], "ids": ids, "micros": micros}
        ids, micros = timed(search_all, [queries], task["rounds"])
        shares = [time / len(queries) for time in micros]
        yield {"system": f"{system}, all at once", "case": case["name"], "ids": ids[0], "micros": shares}


def tantivy_index(task):
    schema = tantivy.SchemaBuilder()
    schema.add_text_field("text", tokenizer_name="english", index_option="freq")
    schema.add_text_field("part", tokenizer_name="raw", index_option="basic")
    index = tantivy.Index(schema.build())
    words = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    words = words.filter(tantivy.Filter.lowercase())
    words = words.filter(tantivy.Filter.stopword("english"))
    words = words.filter(tantivy.Filter.stemmer("english"))
    index.register_tokenizer("english", words.build())
    writer = index.writer(heap_size=256_000_000, num_threads=1)
    for text, part in zip(task["documents"], task["parts"]):
        writer.add_document(tantivy.Document(text=[text], part=[part]))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    return index


def run_tantivy(task):
    index = tantivy_index(task)
    searcher = index.searcher()
    if searcher.num_segments != 1:
        raise SystemExit("tantivy made several segments, documents have no single numbers")
    must = tantivy.Occur.Must
    part = tantivy.Query.term_query(index.schema, "part", task["part"], "basic")
    part = tantivy.Query.const_score_query(part, 0.0)
    for case in task["cases"]:

        def search(text, case=case):
            # The language of queries would take `lift-drag` for a phrase and `OR`
            # for an operator.
            query, _ = index.parse_query_lenient(NO_WORD.sub(" ", text).lower(), ["text"])
            if case["filtered"]:
                query = tantivy.Query.boolean_query([(must, query), (must, part)])
            hits = searcher.search(query, case["k"], count=False).hits
            return [address.doc for _, address in hits]

        ids, micros = timed(search, task["queries"], task["rounds"])
        system = f"tantivy {version('tantivy')}"
        yield {"system": system, "case": case["name"], "ids": ids, "micros": micros}


def main():
    work = pathlib.Path(sys.argv[1])
    task = json.loads((work / "task.json").read_text())
    answers = [*run_bm25s(task), *run_tantivy(task)]
    (work / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
