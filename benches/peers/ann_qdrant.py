"""Qdrant Edge: a database in the process, with one segment and one graph."""

import numpy as np
from ann_system import System


class QdrantEdge(System):
    package = "qdrant-edge-py"
    module = "qdrant_edge"
    ways = [["one", 1], ["batch", 1]]
    ladders = [[16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536]]
    note = "m 16, one segment"

    def codes(self):
        return None

    def build(self):
        q = self.library
        distances = {"cosine": q.Distance.Cosine, "dot": q.Distance.Dot, "euclid": q.Distance.Euclid}
        hnsw = q.HnswIndexConfig(
            m=16, ef_construct=200, full_scan_threshold=10, max_indexing_threads=self.threads
        )
        one_segment = q.EdgeOptimizersConfig(
            default_segment_number=1, max_segment_size=100_000_000, indexing_threshold=1000
        )
        vectors = q.EdgeVectorParams(size=self.dim, distance=distances[self.metric])
        config = q.EdgeConfig(
            vectors={"": vectors},
            hnsw_config=hnsw,
            quantization_config=self.codes(),
            optimizers=one_segment,
            max_search_threads=1,
        )
        (self.folder / "shard").mkdir()
        self.index = q.EdgeShard.create(str(self.folder / "shard"), config)
        for start in range(0, len(self.base), 5000):
            some = self.base[start : start + 5000].tolist()
            points = [q.Point(at, vector) for at, vector in enumerate(some, start)]
            self.index.update(q.UpdateOperation.upsert_points(points))
        self.index.optimize()

    def save(self, folder):
        self.index.flush()
        return self.folder / "shard"

    def settings(self, width):
        return self.library.SearchParams(hnsw_ef=width)

    def question(self, query):
        return self.library.SearchRequest(
            query=self.library.Query.Nearest(query.tolist()),
            limit=self.k,
            params=self.settings(self.width),
            with_payload=False,
            with_vector=False,
        )

    def questions(self, queries):
        return [
            self.library.QueryRequest(
                query=self.library.Query.Nearest(query.tolist()),
                limit=self.k,
                params=self.settings(self.width),
                with_payload=False,
                with_vector=False,
            )
            for query in queries
        ]

    def one(self, request):
        return self.index.search(request)

    def batch(self, requests, threads):
        found = self.index.query_batch(self.library.QueryBatchRequest(requests))
        return [self.ids(hits) for hits in found]

    def ids(self, answer):
        return np.array([hit.id for hit in answer], np.int64)


class QdrantEdgeInt8(QdrantEdge):
    note = "m 16, one segment, int8 in memory, rescored, oversampling 2"

    def codes(self):
        q = self.library
        return q.ScalarQuantizationConfig(type=q.ScalarType.Int8, quantile=0.99, always_ram=True)

    def settings(self, width):
        rescored = self.library.QuantizationSearchParams(rescore=True, oversampling=2.0)
        return self.library.SearchParams(hnsw_ef=width, quantization=rescored)
