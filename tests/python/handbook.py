"""Reads the judged set in tests/data/handbook."""

import csv
import json
import math
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "data" / "handbook"


def corpus() -> list[dict]:
    return _lines("corpus.jsonl")


def queries() -> list[dict]:
    return _lines("queries.jsonl")


def unanswerable() -> list[str]:
    return [row["text"] for row in _lines("unanswerable.jsonl")]


def qrels() -> dict[str, dict[str, int]]:
    """Relevance by query id and document id."""
    judged: dict[str, dict[str, int]] = {}
    with (FOLDER / "qrels.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            judged.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return judged


def ndcg(ranking: list[str], relevant: dict[str, int], k: int = 10) -> float:
    """Normalised discounted cumulative gain of the first `k` documents."""
    gains = [relevant.get(id, 0) for id in ranking[:k]]
    best = sorted(relevant.values(), reverse=True)[:k]
    return _dcg(gains) / _dcg(best)


def _dcg(gains: list[int]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))


def _lines(name: str) -> list[dict]:
    with (FOLDER / name).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
