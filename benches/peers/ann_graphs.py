"""Graphs of rows: SVS, hnswlib, USearch, VSAG and NGT, as their makers recommend.

They have 32 links per row on the lowest layer and are built with a beam of 200; SVS
has its own shape, 64 links.
"""

import json

import numpy as np
from ann_system import ALONE, Bytes, System


class Svs(System):
    """Intel's Vamana."""

    package = "scalable-vs"
    module = "svs"
    # A search with threads of its own must not be entered by two.
    ways = [["one", 1], ["batch", 1], ["batch", 2]]
    ladders = [[10, 12, 16, 20, 26, 34, 44, 56, 72, 96, 128, 176, 240, 320, 448, 640, 900, 1280]]
    note = "Vamana, 64 links, window 200"

    def rows(self):
        return self.base

    def build(self):
        svs = self.library
        distance = svs.DistanceType.MIP if self.by_product else svs.DistanceType.L2
        alpha = 0.95 if self.by_product else 1.2
        settings = svs.VamanaBuildParameters(alpha=alpha, graph_max_degree=64, window_size=200)
        self.index = svs.Vamana.build(settings, self.rows(), distance, num_threads=self.threads)

    def save(self, folder):
        self.index.save(*(str(folder / part) for part in ("settings", "graph", "rows")))

    def set_effort(self, effort):
        self.index.search_window_size = effort

    def begin_thread(self):
        self.begin_batch(1)

    def begin_batch(self, threads):
        if self.index.num_threads != threads:
            self.index.num_threads = threads

    def question(self, query):
        return query[None]

    def one(self, query):
        return self.index.search(query, self.k)[0]

    def batch(self, queries, threads):
        return self.index.search(queries, self.k)[0]


class SvsF16(Svs):
    def rows(self):
        return self.base.astype(np.float16)


class SvsInt8(Svs):
    note = "Vamana, 64 links, window 200, scaled by the caller"

    def rows(self):
        self.bytes = Bytes(self.base, self.by_product)
        return self.bytes.rows(self.base)

    def question(self, query):
        return self.bytes.queries(query[None])

    def questions(self, queries):
        return self.bytes.queries(queries)


class SvsOwnCodes(Svs):
    """Codes of its own, which refuse other makers' processors and take rows out of a file."""

    def __init__(self, base, task, folder):
        super().__init__(base, task, folder)
        self.file = str(folder / "rows.fvecs")
        self.library.write_vecs(base, self.file)

    def rows(self):
        kind = self.library.DataType.float32
        return self.codes(self.library.VectorDataLoader(self.file, kind, dims=self.dim))


class SvsLvq8(SvsOwnCodes):
    note = "Vamana, 64 links, window 200, LVQ8"

    def codes(self, rows):
        return self.library.LVQLoader(rows, 8)


class SvsLvq4x8(SvsOwnCodes):
    note = "Vamana, 64 links, window 200, LVQ4x8, rescored by itself"

    def codes(self, rows):
        return self.library.LVQLoader(rows, 4, 8, strategy=self.library.LVQStrategy.Turbo)


class SvsLeanVec(SvsOwnCodes):
    note = "Vamana, 64 links, window 200, LeanVec to half the values, LVQ4 and LVQ8"

    def codes(self, rows):
        kinds = self.library.LeanVecKind
        return self.library.LeanVecLoader(rows, self.dim // 2, kinds.lvq4, kinds.lvq8)


class Hnswlib(System):
    package = "hnswlib"
    module = "hnswlib"
    note = "m 16, compiled here with -O3 -march=native"

    def build(self):
        self.index = self.library.Index("ip" if self.by_product else "l2", self.dim)
        self.index.init_index(len(self.base), M=16, ef_construction=200, random_seed=1)
        self.index.add_items(self.base, num_threads=self.threads)

    def save(self, folder):
        self.index.save_index(str(folder / "index"))

    def set_effort(self, effort):
        self.index.set_ef(max(effort, self.k))

    def one(self, query):
        return self.index.knn_query(query, self.k, num_threads=1)[0]

    def batch(self, queries, threads):
        return self.index.knn_query(queries, self.k, num_threads=threads)[0]


class Usearch(System):
    package = "usearch"
    module = "usearch.index"
    kind = "f32"
    note = "m 16"

    def rows(self):
        return self.base

    def build(self):
        self.index = self.library.Index(
            ndim=self.dim,
            metric="ip" if self.by_product else "l2sq",
            dtype=self.kind,
            connectivity=16,
            expansion_add=200,
        )
        keys = np.arange(len(self.base), dtype=np.uint64)
        self.index.add(keys, self.rows(), threads=self.threads)

    def save(self, folder):
        self.index.save(str(folder / "index"))

    def set_effort(self, effort):
        self.index.expansion_search = max(effort, self.k)

    def one(self, query):
        return self.index.search(query, self.k, threads=1)

    def ids(self, answer):
        return answer.keys

    def batch(self, queries, threads):
        return self.index.search(queries, self.k, threads=threads).keys


class UsearchF16(Usearch):
    kind = "f16"


class UsearchInt8(Usearch):
    kind = "i8"
    note = "m 16, scaled by the caller"

    def rows(self):
        self.bytes = Bytes(self.base, self.by_product)
        return self.bytes.rows(self.base)

    def question(self, query):
        return self.bytes.queries(query)

    def questions(self, queries):
        return self.bytes.queries(queries)


class Vsag(System):
    package = "pyvsag"
    module = "pyvsag"
    ways = ALONE

    def build(self):
        # The uniform codes answer wrongly under "ip"; rows of unit length are in
        # the same order under "l2".
        by_product = self.metric == "dot"
        codes = "sq8" if by_product else "sq8_uniform"
        settings = {
            "base_quantization_type": codes,
            "use_reorder": True,
            "precise_quantization_type": "fp32",
            "max_degree": 32,
            "ef_construction": 200,
            "build_thread_count": self.threads,
        }
        kind = {
            "dtype": "float32",
            "metric_type": "ip" if by_product else "l2",
            "dim": self.dim,
            "index_param": settings,
        }
        rows = len(self.base)
        self.index = self.library.Index("hgraph", json.dumps(kind))
        self.index.build(
            vectors=self.base.reshape(-1),
            ids=np.arange(rows, dtype=np.int64),
            num_elements=rows,
            dim=self.dim,
        )
        self.note = f"hgraph, 32 links, {codes}, reordered in f32"

    def save(self, folder):
        self.index.save(str(folder / "index"))

    def set_effort(self, effort):
        self.settings = json.dumps({"hgraph": {"ef_search": max(effort, self.k)}})

    def one(self, query):
        return self.index.knn_search(vector=query, k=self.k, parameters=self.settings)

    def ids(self, answer):
        # Releases differ in which of ids and distances comes first.
        return answer[0] if answer[0].dtype == np.int64 else answer[1]


class Ngt(System):
    package = "ngt"
    module = "ngtpy"
    ways = ALONE
    ladders = [[-0.05, -0.02, 0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25]]
    note = "ONNG of an ANNG with 60 links, 10 out, 60 in"

    def build(self):
        ngtpy = self.library
        kind = {"cosine": "Normalized Cosine", "dot": "Inner Product", "euclid": "L2"}[self.metric]
        first, best = str(self.folder / "anng"), str(self.folder / "onng")
        ngtpy.create(
            first,
            self.dim,
            edge_size_for_creation=60,
            edge_size_for_search=0,
            distance_type=kind,
        )
        index = ngtpy.Index(first, log_disabled=True)
        index.batch_insert(self.base, num_threads=self.threads)
        index.save()
        index.close()
        optimizer = ngtpy.Optimizer(log_disabled=True)
        # How a target of recall becomes an epsilon is not asked for here.
        optimizer.set_processing_modes(
            search_parameter_optimization=False, accuracy_table_generation=False
        )
        optimizer.set(num_of_outgoings=10, num_of_incomings=60, num_of_queries=100)
        optimizer.execute(first, best)
        self.index = ngtpy.Index(best, read_only=True, log_disabled=True)

    def save(self, folder):
        return self.folder / "onng"

    def set_effort(self, effort):
        self.epsilon = effort

    def one(self, query):
        return self.index.search(query, size=self.k, epsilon=self.epsilon, with_distance=False)
