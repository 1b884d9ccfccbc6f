"""The libraries that `ann` measures, by name."""

from ann_faiss import FaissHnsw, FaissHnswSq8, FaissIvfPq
from ann_graphs import (
    Hnswlib,
    Ngt,
    Svs,
    SvsF16,
    SvsInt8,
    SvsLeanVec,
    SvsLvq4x8,
    SvsLvq8,
    Usearch,
    UsearchF16,
    UsearchInt8,
    Vsag,
)
from ann_qdrant import QdrantEdge, QdrantEdgeInt8
from ann_scann import Scann

SYSTEMS = {
    "svs-int8": SvsInt8,
    "svs-f16": SvsF16,
    "svs-f32": Svs,
    "svs-lvq8": SvsLvq8,
    "svs-lvq4x8": SvsLvq4x8,
    "svs-leanvec": SvsLeanVec,
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
