"""FAISS: its graphs, with 32 links per row on the lowest layer, and its lists."""

from ann_system import System


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
