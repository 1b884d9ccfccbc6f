"""Chats of LangChain and LlamaIndex, unmodified, with collections as models; and LangChain with
passages that it retrieves itself."""

import httpx
import pytest

for module in ("langchain_openai", "llama_index.llms.openai_like"):
    pytest.importorskip(module, reason="see frameworks.txt")

DOCUMENTS = [
    {"id": "backups", "title": "Backups", "text": "# Backups\n\nThe database is copied to tape every Friday.\n"},
    {"id": "lunch", "title": "Lunch", "text": "The canteen serves soup on Mondays."},
]
ASKED = "When is the database copied to tape?"


@pytest.fixture(scope="module")
def notes(server, model):
    path = f"{server.url}/collections/framework-notes"
    done = httpx.put(f"{path}/documents", json={"documents": DOCUMENTS}, timeout=300)
    assert done.status_code == 200, done.text
    yield "cairn/framework-notes"
    httpx.delete(path, timeout=60)


@pytest.fixture
def chain(server, notes):
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model=notes, base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300)


@pytest.fixture
def llama(server, notes):
    from llama_index.llms.openai_like import OpenAILike

    return OpenAILike(
        model=notes, api_base=f"{server.url}/v1", api_key="none", is_chat_model=True, max_retries=0, timeout=300
    )


def test_langchain_asks_a_collection(chain):
    answer = chain.invoke(ASKED)
    assert "Friday" in answer.content
    assert answer.usage_metadata["output_tokens"] > 0 and answer.response_metadata["finish_reason"] == "stop"
    assert "".join(chunk.content for chunk in chain.stream(ASKED)) == answer.content


def test_langchain_keeps_what_was_said_and_composes(chain):
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    turns = [("human", ASKED), ("ai", "Every Friday."), ("human", "{question}")]
    asking = ChatPromptTemplate.from_messages(turns) | chain | StrOutputParser()
    assert "soup" in asking.invoke({"question": "And what does the canteen serve on Mondays?"})
    found = asking.batch([{"question": "What does the canteen serve on Mondays?"}, {"question": ASKED}])
    assert "soup" in found[0] and "Friday" in found[1]


def test_langchain_embeds_and_finds_what_it_embedded(server, model):
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(
        model="all-MiniLM-L6-v2", base_url=f"{server.url}/v1", api_key="none", check_embedding_ctx_length=False
    )
    store = InMemoryVectorStore(embeddings)
    store.add_texts([document["text"] for document in DOCUMENTS])
    retriever = store.as_retriever(search_kwargs={"k": 1})
    assert "soup" in retriever.invoke("food at noon")[0].page_content


def test_llama_index_asks_a_collection(llama):
    from llama_index.core.base.llms.types import ChatMessage

    answer = llama.chat([ChatMessage(role="user", content=ASKED)])
    assert "Friday" in answer.message.content
    parts = list(llama.stream_chat([ChatMessage(role="user", content=ASKED)]))
    assert "".join(part.delta or "" for part in parts) == answer.message.content


def test_an_engine_of_llama_index_chats_in_turns(llama):
    from llama_index.core.chat_engine import SimpleChatEngine

    engine = SimpleChatEngine.from_defaults(llm=llama)
    assert "Friday" in str(engine.chat(ASKED))
    assert "soup" in str(engine.chat("And what does the canteen serve on Mondays?"))
    assert len(engine.chat_history) == 4
    streamed = engine.stream_chat(ASKED)
    assert "Friday" in "".join(streamed.response_gen)
