"""Makes `chroma.tar.gz`: a folder of Chroma, and what Chroma itself says is in it.

    pip install chromadb
    python tests/data/chroma/make.py

`stones` has most of its vectors in the graph and the last operations in the queue alone; of `few` the
graph was never written.
"""

import io
import json
import tarfile
import tempfile
from pathlib import Path

import chromadb

HERE = Path(__file__).resolve().parent


def vector(number: int) -> list[float]:
    return [number + 1.0, 0.5, -0.25 * number, 2.0]


def record(number: int) -> dict:
    metadata = {"n": number, "half": number / 2, "even": number % 2 == 0, "name": f"stone {number}"}
    return {"ids": f"id-{number}", "embeddings": vector(number), "documents": f"Text of stone {number}.", "metadatas": metadata}


def add(collection, numbers):
    records = [record(number) for number in numbers]
    collection.add(**{key: [one[key] for one in records] for key in records[0]})


def shown(collection) -> dict:
    got = collection.get(include=["embeddings", "documents", "metadatas"])
    rows = zip(got["ids"], got["embeddings"], got["documents"], got["metadatas"])
    return {id: {"vector": [float(x) for x in v], "document": d, "metadata": m} for id, v, d, m in rows}


def main():
    with tempfile.TemporaryDirectory() as folder:
        client = chromadb.PersistentClient(folder, chromadb.Settings(anonymized_telemetry=False))
        small = {"space": "l2", "sync_threshold": 20, "batch_size": 10}
        stones = client.create_collection("stones", configuration={"hnsw": small}, embedding_function=None)
        for start in range(0, 60, 10):
            add(stones, range(start, start + 10))
        stones.delete(ids=["id-3", "id-59"])
        stones.update(ids=["id-5"], metadatas=[{"n": 500, "new": "key"}])
        stones.upsert(ids=["id-7"], embeddings=[vector(700)], documents=["Another text."], metadatas=[{"n": 7}])
        stones.add(ids=["id-3"], embeddings=[vector(300)], documents=["Back again."])
        add(stones, range(60, 65))
        few = client.create_collection("few", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
        add(few, range(3))
        told = {collection.name: shown(collection) for collection in (stones, few)}
        stones.update(ids=["id-8"], documents=["Changed last."], embeddings=[vector(800)])
        stones.delete(ids=["id-9"])
        told["stones"]["id-8"] |= {"document": "Changed last.", "vector": vector(800)}
        del told["stones"]["id-9"]
        del client
        with tarfile.open(HERE / "chroma.tar.gz", "w:gz") as tar:
            tar.add(folder, "chroma")
            data = json.dumps(told).encode()
            about = tarfile.TarInfo("told.json")
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
        print(chromadb.__version__, sorted(path.name for path in Path(folder).rglob("*")))


if __name__ == "__main__":
    main()
