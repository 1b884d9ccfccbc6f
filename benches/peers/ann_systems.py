"""The libraries that `ann` measures, each with the settings its makers recommend.

Graphs have 32 links per row on the lowest layer and are built with a beam of 200;
SVS has its own shape, 64 links. `metric` is cosine (rows of unit length), dot or
euclid. A ladder is a list of efforts, cheapest first, that is climbed until recall
no longer grows.
"""

import json
from importlib import import_module
from importlib.metadata import version

import numpy as np

BEAMS = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 900, 1280, 1800]

# A binding that keeps the interpreter's lock while it searches has no second thread.
ALONE = [["one", 1]]


class System:
    """What the others share: everything but building and searching."""

    package = ""
    # What to import, before memory is measured.
    module = ""
    note = ""
    ladders = [BEAMS]
    ways = [["one", 1], ["batch", 1], ["one", 2], ["batch", 2]]

    def __init__(self, base, task, folder):
        self.base, self.folder = base, folder
        self.dim = base.shape[1]
        self.k, self.threads = task["k"], task["threads"]
        self.metric = task["metric"]
        self.by_product = self.metric != "euclid"
        self.width = self.k
        self.library = import_module(self.module)

    def version(self):
        return f"{self.package} {version(self.package)}"

    def set_effort(self, effort):
        self.width = max(effort, self.k)

    def begin_thread(self):
        """Called in each thread that will make single calls."""

    def begin_batch(self, threads):
        """Called before batch calls."""

    def question(self, query):
        """One query in the form that `one` takes."""
        return query

    def questions(self, queries):
        """All queries in the form that `batch` takes."""
        return queries

    def ids(self, answer):
        """The ids in what `one` gave."""
        return answer


class Bytes:
    """Values as int8, scaled so that all but the farthest 0.05 % fit in.

    Libraries that take int8 expect their callers to do this. An inner product
    keeps its order when queries have a scale of their own, a distance does not.
    """

    def __init__(self, base, by_product):
        self.by_product = by_product
        self.scale = 127 / np.quantile(np.abs(base[:20_000]), 0.9995)

    def rows(self, values):
        return self.at(values, self.scale)

    def queries(self, values):
        if not self.by_product:
            return self.at(values, self.scale)
        return self.at(values, 127 / np.abs(values).max(axis=-1, keepdims=True))

    def at(self, values, scale):
        return np.clip(np.rint(values * scale), -127, 127).astype(np.int8)


class Svs(System):
    """Intel's Vamana. Its own codes, LVQ and LeanVec, refuse other makers' processors."""

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


class Faiss(System):
    package = "faiss-cpu"
    module = "faiss"

    def build(self):
        faiss = self.library
        faiss.omp_set_num_threads(self.threads)
        self.measure = faiss.METRIC_INNER_PRODUCT if self.by_product else faiss.METRIC_L2
        self.index = self.made(faiss)

    def save(self, folder):
        self.library.write_index(self.index, str(folder / "index"))

    def begin_thread(self):
        # The setting is one of the thread that calls.
        self.library.omp_set_num_threads(1)

    def begin_batch(self, threads):
        self.library.omp_set_num_threads(threads)

    def question(self, query):
        return query[None]

    def one(self, query):
        return self.index.search(query, self.k)[1]

    def batch(self, queries, threads):
        return self.index.search(queries, self.k)[1]


class FaissHnsw(Faiss):
    note = "HNSWFlat, m 16"

    def made(self, faiss):
        self.graph = faiss.IndexHNSWFlat(self.dim, 16, self.measure)
        self.graph.hnsw.efConstruction = 200
        self.graph.add(self.base)
        return self.graph

    def set_effort(self, effort):
        self.graph.hnsw.efSearch = max(effort, self.k)


class FaissHnswSq8(FaissHnsw):
    note = "HNSWSQ 8 bit, m 16, refined from f32, k_factor 3"

    def made(self, faiss):
        kind = faiss.ScalarQuantizer.QT_8bit
        self.graph = faiss.IndexHNSWSQ(self.dim, kind, 16, self.measure)
        self.graph.hnsw.efConstruction = 200
        self.graph.train(self.base)
        self.graph.add(self.base)
        refined = faiss.IndexRefineFlat(self.graph, faiss.swig_ptr(self.base))
        refined.k_factor = 3
        return refined


class FaissIvfPq(Faiss):
    note = "IVF1024, PQ 4 bit fast scan, refined from f32"
    ladders = [
        [[probes, factor] for probes in (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)]
        for factor in (5, 12, 30)
    ]

    def made(self, faiss):
        made = faiss.index_factory(self.dim, f"IVF1024,PQ{self.dim // 2}x4fs,RFlat", self.measure)
        made.train(self.base)
        made.add(self.base)
        return made

    def set_effort(self, effort):
        probes, self.index.k_factor = effort
        self.library.ParameterSpace().set_index_parameter(self.index, "nprobe", probes)


class Scann(System):
    """Lists of rows with 4-bit codes, spilled (SOAR), and reordered in bf16."""

    package = "scann"
    module = "scann"
    ladders = [
        [[leaves, reordered] for leaves in (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)]
        for reordered in (20, 40, 100)
    ]

    def build(self):
        scann = self.library
        rows = len(self.base)
        leaves = int(min(1000, max(64, 2 * rows**0.5)))
        measure = "dot_product" if self.by_product else "squared_l2"
        builder = scann.scann_ops_pybind.builder(self.base, self.k, measure)
        builder = builder.set_n_training_threads(self.threads)
        # Spilling and anisotropic codes are made for products, and for them alone.
        spilled = {"soar_lambda": 1.5, "overretrieve_factor": 2.0} if self.by_product else {}
        builder = builder.tree(
            num_leaves=leaves,
            num_leaves_to_search=leaves // 20,
            training_sample_size=min(rows, 250_000),
            **spilled,
        )
        threshold = 0.2 if self.by_product else float("nan")
        builder = builder.score_ah(2, anisotropic_quantization_threshold=threshold)
        self.index = builder.reorder(100, quantize=scann.ReorderType.BFLOAT16).build()
        self.index.set_num_threads(self.threads)
        self.note = f"{leaves} leaves{', SOAR' if spilled else ''}, AH 2, reordered in bf16"

    def save(self, folder):
        self.index.serialize(str(folder))

    def set_effort(self, effort):
        self.settings = {"leaves_to_search": effort[0], "pre_reorder_num_neighbors": effort[1]}

    def one(self, query):
        return self.index.search(query, final_num_neighbors=self.k, **self.settings)[0]

    def batch(self, queries, threads):
        index = self.index
        search = index.search_batched if threads == 1 else index.search_batched_parallel
        return search(queries, final_num_neighbors=self.k, **self.settings)[0]


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


SYSTEMS = {
    "svs-int8": SvsInt8,
    "svs-f16": SvsF16,
    "svs-f32": Svs,
    "scann": Scann,
    "faiss-hnsw": FaissHnsw,
    "faiss-hnsw-sq8": FaissHnswSq8,
    "faiss-ivf-pq4fs": FaissIvfPq,
    "hnswlib": Hnswlib,
    "usearch-f32": Usearch,
    "usearch-f16": UsearchF16,
    "usearch-int8": UsearchInt8,
    "vsag-sq8": Vsag,
    "ngt-onng": Ngt,
    "qdrant-edge": QdrantEdge,
    "qdrant-edge-int8": QdrantEdgeInt8,
}
