"""One library of nearest-neighbour search, as `ann` asks for it.

    ann.py FOLDER SYSTEM

FOLDER holds task.json, base.npy and queries.npy. Lines of JSON come on standard
input and each is answered by one line on standard output:

    {"do": "build"}
    {"do": "search", "effort": .., "way": "one" | "batch", "threads": 1 | 2}

Searches leave the ids they found in FOLDER/SYSTEM.ids.npy. What a query is
turned into before a library takes it is made before the clock starts, and its
answer is read after it stops. Whatever a library prints goes to standard error.
"""

import ctypes
import gc
import json
import os
import pathlib
import shutil
import sys
import threading
import time

# A thread that waits must not burn the core that another system is measured on.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("RUST_LOG", "error")

import numpy as np

WARM_UP = 200


def resident():
    """Bytes of memory that this process has, without what was freed."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def size_of(path):
    """Bytes that a file, or all files of a folder, take."""
    files = [path] if path.is_file() else [at for at in path.rglob("*") if at.is_file()]
    return sum(at.stat().st_blocks * 512 for at in files)


def build(system, folder):
    before, started, spent = resident(), time.perf_counter(), time.process_time()
    system.build()
    seconds, spent = time.perf_counter() - started, time.process_time() - spent
    grown = resident() - before
    rows = len(system.base)
    # What is left of the caller's copy is no longer needed.
    system.base = None
    saved = folder / "saved"
    saved.mkdir()
    try:
        on_disk = size_of(system.save(saved) or saved) / rows
    finally:
        shutil.rmtree(saved)
    return {
        "version": system.version(),
        "note": system.note,
        "seconds": seconds,
        "cpu_seconds": spent,
        "resident": grown / rows,
        "on_disk": on_disk,
        "ladders": system.ladders,
        "ways": system.ways,
    }


def one_by_one(system, questions, threads):
    """All questions, each a call of its own, shared between threads."""
    answers = [None] * len(questions)
    starts = threading.Barrier(threads + 1)

    def some(first):
        system.begin_thread()
        starts.wait()
        for at in range(first, len(questions), threads):
            answers[at] = system.one(questions[at])

    if threads == 1:
        system.begin_thread()
        started, spent = time.perf_counter(), time.process_time()
        for at, question in enumerate(questions):
            answers[at] = system.one(question)
    else:
        workers = [threading.Thread(target=some, args=(at,)) for at in range(threads)]
        for worker in workers:
            worker.start()
        starts.wait()
        started, spent = time.perf_counter(), time.process_time()
        for worker in workers:
            worker.join()
    seconds, spent = time.perf_counter() - started, time.process_time() - spent
    return [system.ids(answer) for answer in answers], seconds, spent


def all_at_once(system, questions, threads):
    system.begin_batch(threads)
    system.batch(questions[:WARM_UP], threads)
    started, spent = time.perf_counter(), time.process_time()
    answer = system.batch(questions, threads)
    seconds, spent = time.perf_counter() - started, time.process_time() - spent
    return answer, seconds, spent


def search(system, asked, queries, out, k):
    system.set_effort(asked["effort"])
    if asked["way"] == "one":
        questions = [system.question(query) for query in queries]
        one_by_one(system, questions[:WARM_UP], asked["threads"])
        found, seconds, spent = one_by_one(system, questions, asked["threads"])
    else:
        found, seconds, spent = all_at_once(system, system.questions(queries), asked["threads"])
    ids = np.full((len(queries), k), -1, np.int32)
    for row, some in zip(ids, found):
        some = np.asarray(some).reshape(-1)[:k].astype(np.int64)
        row[: len(some)] = np.where((some < 0) | (some >= 2**31), -1, some)
    np.save(out, ids)
    return {"seconds": seconds, "cpu_seconds": spent}


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from ann_systems import SYSTEMS

    work, name = pathlib.Path(sys.argv[1]), sys.argv[2]
    task = json.loads((work / "task.json").read_text())
    base, queries = np.load(work / "base.npy"), np.load(work / "queries.npy")
    folder = work / name
    folder.mkdir()
    system = SYSTEMS[name](base, task, folder)
    del base
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "build":
            answer = build(system, folder)
        else:
            answer = search(system, asked, queries, work / f"{name}.ids.npy", task["k"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    # Some libraries do not end their threads.
    os._exit(0)


if __name__ == "__main__":
    main()
