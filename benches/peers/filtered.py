"""Filtered searches in Qdrant Edge, as `filtered` asks for them.

The folder given holds task.json, base.npy and queries.npy; answers.json comes to
lie beside them. Requests are made before the clock starts, so that only the
search is timed.
"""

import json
import pathlib
import sys
import time
from importlib.metadata import version

import numpy as np
import qdrant_edge as q


def shard(folder, task, base):
    """One segment with one graph and the payload indexes, made before it."""
    vectors = q.EdgeVectorParams(size=base.shape[1], distance=q.Distance.Cosine)
    # 10,000 KiB is what the server has when nothing else is said.
    hnsw = q.HnswIndexConfig(
        m=task["m"],
        ef_construct=task["ef_construct"],
        full_scan_threshold=10_000,
        max_indexing_threads=task["threads"],
    )
    one_segment = q.EdgeOptimizersConfig(
        default_segment_number=1, max_segment_size=100_000_000, indexing_threshold=1000
    )
    config = q.EdgeConfig(
        vectors={"": vectors}, hnsw_config=hnsw, optimizers=one_segment, max_search_threads=1
    )
    made = q.EdgeShard.create(str(folder), config)
    kinds = {"integer": q.PayloadSchemaType.Integer, "keyword": q.PayloadSchemaType.Keyword}
    for field in task["fields"]:
        made.update(q.UpdateOperation.create_field_index(field["key"], kinds[field["kind"]]))
    payloads = task["payloads"]
    for start in range(0, len(base), 5000):
        points = [
            q.Point(at, base[at].tolist(), payloads[at])
            for at in range(start, min(len(base), start + 5000))
        ]
        made.update(q.UpdateOperation.upsert_points(points))
    made.optimize()
    return made


def answer(made, task, case, queries):
    params = q.SearchParams(hnsw_ef=task["ef"])

    def request(question):
        match = q.MatchValue(question["value"])
        return q.SearchRequest(
            query=q.Query.Nearest(queries[question["query"]].tolist()),
            limit=task["k"],
            filter=q.Filter(must=[q.FieldCondition(key=case["key"], match=match)]),
            params=params,
            with_payload=False,
            with_vector=False,
        )

    requests = [request(question) for question in case["questions"]]
    for one in requests[:100]:
        made.search(one)
    ids, micros = [], []
    for one in requests:
        started = time.perf_counter()
        hits = made.search(one)
        micros.append((time.perf_counter() - started) * 1e6)
        ids.append([hit.id for hit in hits])
    return ids, micros


def main():
    work = pathlib.Path(sys.argv[1])
    task = json.loads((work / "task.json").read_text())
    base, queries = np.load(work / "base.npy"), np.load(work / "queries.npy")
    folder = work / "qdrant"
    folder.mkdir()
    started, processor = time.perf_counter(), time.process_time()
    made = shard(folder, task, base)
    system = f"qdrant-edge {version('qdrant-edge-py')}"
    took, processor = time.perf_counter() - started, time.process_time() - processor
    print(f"{system}  written and indexed in {took:.1f} s, {processor:.1f} cpu s", flush=True)
    answers = []
    for case in task["cases"]:
        ids, micros = answer(made, task, case, queries)
        answers.append({"system": system, "case": case["name"], "ids": ids, "micros": micros})
    (work / "answers.json").write_text(json.dumps(answers))
    made.close()


if __name__ == "__main__":
    main()
