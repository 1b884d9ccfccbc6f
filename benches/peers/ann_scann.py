"""ScaNN: lists of rows with small codes."""

from ann_system import System


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
