"""Wrappers that frameworks have for text-embeddings-inference, unmodified, against our server."""

import pytest
import tiny_models

for module in ("llama_index.postprocessor.tei_rerank", "llama_index.embeddings.text_embeddings_inference"):
    pytest.importorskip(module, reason="see frameworks.txt")

RERANK = tiny_models.golden("rerank")
LOGITS = tiny_models.case("rerank", "bert")["pairs"]
EMBED = tiny_models.golden("tiny")
VECTORS = tiny_models.case("tiny", "bert mean normalized")["vectors"]


@pytest.fixture(scope="module")
def tei(new_model_server):
    return new_model_server("bert")


def test_llama_index_reranks(tei):
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    query = RERANK["pairs"][0][0]
    # The wrapper does not ask for what is too long to be cut.
    texts = {at: text for at, text in enumerate(RERANK["texts"]) if text and len(text) < 60}
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in texts.values()]
    wrapper = TextEmbeddingInference(base_url=tei.url, top_n=len(texts))
    found = wrapper.postprocess_nodes(nodes, query_str=query)
    order = sorted(texts, key=lambda at: -LOGITS[at][0])
    assert [one.node.text for one in found] == [texts[at] for at in order]
    want = [tiny_models.sigmoid(LOGITS[at][0]) for at in order]
    assert [one.score for one in found] == pytest.approx(want, abs=1e-4)


def test_llama_index_embeds(tei):
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    short = [at for at, text in enumerate(EMBED["texts"]) if text and len(text) < 40]
    model = TextEmbeddingsInference(model_name=tei.encoder, base_url=tei.url, timeout=60)
    found = model.get_text_embedding_batch([EMBED["texts"][at] for at in short])
    for at, vector in zip(short, found, strict=True):
        assert vector == pytest.approx(VECTORS[at], abs=1e-4)
