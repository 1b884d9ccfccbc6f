"""What applications are built with, unmodified, against our server.

Vectors are counted letters, so that no model is needed; the frameworks do the rest.
"""

import uuid

import pytest

for module in ("langchain_qdrant", "llama_index.vector_stores.qdrant", "haystack_integrations", "mem0"):
    pytest.importorskip(module, reason="see frameworks.txt")

TEXTS = {
    "stones": "A cairn is a pile of stones.",
    "river": "The river runs past the mill.",
    "bread": "Bread is baked from flour.",
}


def letters(text):
    """How often each letter comes; texts that share words are near."""
    counts = [float(text.lower().count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"]
    length = sum(count * count for count in counts) ** 0.5 or 1.0
    return [count / length for count in counts]


def test_langchain_adds_finds_filters_and_deletes(server, collection):
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_qdrant import QdrantVectorStore
    from qdrant_client import models

    class Letters(Embeddings):
        def embed_documents(self, texts):
            return [letters(text) for text in texts]

        def embed_query(self, text):
            return letters(text)

    documents = [Document(page_content=text, metadata={"name": name}) for name, text in TEXTS.items()]
    store = QdrantVectorStore.from_documents(
        documents, Letters(), url=server.url, collection_name=collection, prefer_grpc=False
    )
    [(found, score)] = store.similarity_search_with_score(TEXTS["river"], k=1)
    assert (found.metadata["name"], round(score, 4)) == ("river", 1)
    name = models.FieldCondition(key="metadata.name", match=models.MatchValue(value="bread"))
    [found] = store.similarity_search(TEXTS["river"], k=3, filter=models.Filter(must=[name]))
    assert found.page_content == TEXTS["bread"]
    diverse = store.max_marginal_relevance_search(TEXTS["stones"], k=2, fetch_k=3)
    assert diverse[0].metadata["name"] == "stones"
    again = QdrantVectorStore.from_existing_collection(collection, Letters(), url=server.url)
    [id] = again.add_texts(["gone soon"])
    assert again.get_by_ids([id])[0].page_content == "gone soon"
    assert again.delete([id]) is True
    assert again.get_by_ids([id]) == []


def test_llama_index_adds_finds_filters_and_deletes(server, collection):
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
    from llama_index.core.vector_stores.types import (
        MetadataFilter,
        MetadataFilters,
        VectorStoreQuery,
    )
    from llama_index.vector_stores.qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient

    store = QdrantVectorStore(client=QdrantClient(url=server.url), collection_name=collection)
    nodes = []
    for name, text in TEXTS.items():
        node = TextNode(id_=str(uuid.uuid4()), text=text, metadata={"name": name}, embedding=letters(text))
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"doc-{name}")
        nodes.append(node)
    assert len(store.add(nodes)) == 3
    found = store.query(VectorStoreQuery(query_embedding=letters(TEXTS["bread"]), similarity_top_k=2))
    assert (found.nodes[0].metadata["name"], round(found.similarities[0], 4)) == ("bread", 1)
    only = MetadataFilters(filters=[MetadataFilter(key="name", value="river")])
    asked = VectorStoreQuery(query_embedding=letters(TEXTS["bread"]), similarity_top_k=3, filters=only)
    assert [node.metadata["name"] for node in store.query(asked).nodes] == ["river"]
    assert len(store.get_nodes(node_ids=[nodes[0].node_id])) == 1
    store.delete("doc-bread")
    found = store.query(VectorStoreQuery(query_embedding=letters(TEXTS["bread"]), similarity_top_k=3))
    assert {node.metadata["name"] for node in found.nodes} == {"stones", "river"}


def test_haystack_writes_finds_filters_counts_and_deletes(server, collection):
    from haystack import Document
    from haystack.document_stores.types import DuplicatePolicy
    from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
    from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

    store = QdrantDocumentStore(
        url=server.url,
        index=collection,
        embedding_dim=26,
        similarity="cosine",
        return_embedding=True,
        payload_fields_to_index=[{"field_name": "meta.name", "field_schema": "keyword"}],
    )
    documents = [
        Document(id=name, content=text, meta={"name": name}, embedding=letters(text))
        for name, text in TEXTS.items()
    ]
    assert store.write_documents(documents, policy=DuplicatePolicy.OVERWRITE) == 3
    assert store.count_documents() == 3
    condition = {"field": "meta.name", "operator": "in", "value": ["river", "bread"]}
    assert {document.id for document in store.filter_documents(condition)} == {"river", "bread"}
    retriever = QdrantEmbeddingRetriever(document_store=store, top_k=2)
    found = retriever.run(query_embedding=letters(TEXTS["stones"]))["documents"]
    assert (found[0].id, round(found[0].score, 4)) == ("stones", 1)
    grouped = QdrantEmbeddingRetriever(document_store=store, top_k=3, group_by="meta.name", group_size=1)
    assert len(grouped.run(query_embedding=letters(TEXTS["river"]))["documents"]) == 3
    store.delete_documents(["stones"])
    assert store.count_documents() == 2


def test_mem0_keeps_updates_lists_and_forgets_memories(server, collection):
    from mem0.vector_stores.qdrant import Qdrant
    from qdrant_client import QdrantClient

    store = Qdrant(
        collection_name=collection, embedding_model_dims=26, client=QdrantClient(url=server.url)
    )
    ids = [str(uuid.uuid4()) for _ in TEXTS]
    payloads = [{"data": text, "user_id": "ann" if name != "bread" else "bob"} for name, text in TEXTS.items()]
    store.insert(vectors=[letters(text) for text in TEXTS.values()], payloads=payloads, ids=ids)
    found = store.search(query="river", vectors=letters(TEXTS["river"]), top_k=2, filters={"user_id": "ann"})
    assert [str(hit.id) for hit in found][0] == ids[1]
    assert {hit.payload["user_id"] for hit in found} == {"ann"}
    store.update(ids[0], vector=letters("quartz"), payload={"data": "quartz", "user_id": "ann"})
    assert store.get(ids[0]).payload["data"] == "quartz"
    store.delete(ids[1])
    listed, _ = store.list(filters={"user_id": "ann"})
    assert [str(record.id) for record in listed] == [ids[0]]
    assert collection in [each.name for each in store.list_cols().collections]
