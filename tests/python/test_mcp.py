"""The reference client of the Model Context Protocol, in both eras and over both transports."""

import asyncio
import json

import httpx
import pytest
from conftest import clean_env
from mcp import Client, StdioServerParameters

COLLECTION = "mcp-notes"
DOCUMENTS = [
    {"id": "ops/backups.md", "title": "Backups", "text": "# Backups\n\nThe database is copied to tape every Friday.\n"},
    {"id": "lunch", "title": "Lunch", "text": "The canteen serves soup on Mondays."},
]
WRITING = {"upsert_documents", "delete_documents", "remember"}


@pytest.fixture(scope="module")
def address(server, model):
    done = httpx.put(f"{server.url}/collections/{COLLECTION}/documents", json={"documents": DOCUMENTS}, timeout=300)
    assert done.status_code == 200, done.text
    yield f"{server.url}/mcp"
    httpx.delete(f"{server.url}/collections/{COLLECTION}", timeout=60)


def with_client(server, mode, work):
    async def run():
        async with Client(server, mode=mode, read_timeout_seconds=300) as client:
            return await work(client)

    return asyncio.run(run())


def text(result):
    assert not result.is_error, result.content
    return json.loads(result.content[0].text)


async def look(client):
    tools = {tool.name for tool in (await client.list_tools()).tools}
    assert {"search", "fetch", "ask", "query_collection", "list_collections", "recall"} | WRITING <= tools
    results = text(await client.call_tool("search", {"query": "saving data on tape"}))["results"]
    found = next(result for result in results if result["id"] == f"{COLLECTION}/ops/backups.md")
    document = text(await client.call_tool("fetch", {"id": found["id"]}))
    assert "tape every Friday" in document["text"] and document["title"] == "Backups"
    question = {"collection": COLLECTION, "question": "When is the database copied to tape?"}
    answer = (await client.call_tool("ask", question)).structured_content
    assert "Friday" in answer["answer"]
    [citation] = answer["citations"]
    assert DOCUMENTS[0]["text"][citation["start"] : citation["end"]] == citation["quote"]
    hits = (await client.call_tool("query_collection", {"collection": COLLECTION, "query": "soup", "limit": 1}))
    assert hits.structured_content["hits"][0]["document_id"] == "lunch"
    names = [c["name"] for c in (await client.call_tool("list_collections", {})).structured_content["collections"]]
    assert COLLECTION in names


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_assistant_searches_reads_and_asks(address, mode):
    with_client(address, mode, look)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_standard_streams_serve_a_data_directory(binary, model, tmp_path, mode):
    def server():
        command = ["--data-dir", str(tmp_path / "data"), "mcp"]
        return StdioServerParameters(command=str(binary), args=command, env=clean_env())

    async def keep(client):
        kept = await client.call_tool("remember", {"information": "The key is under the third stone."})
        assert not kept.is_error, kept.content
        await client.call_tool("qdrant-store", {"information": "Soup is served on Mondays.", "metadata": {"by": "me"}})

    async def find(client):
        found = text(await client.call_tool("qdrant-find", {"query": "where is the key?"}))["results"]
        assert found[0]["text"] == "The key is under the third stone."
        gone = await client.call_tool("delete_documents", {"collection": "memory", "ids": [found[0]["id"]]})
        assert gone.structured_content == {"deleted": 1}

    with_client(server(), mode, keep)
    with_client(server(), mode, find)


def test_a_tool_that_fails_says_why_and_the_call_goes_on(address):
    async def fail(client):
        for name, arguments, told in [
            ("ask", {"collection": "gone", "question": "x"}, "gone"),
            ("ask", {"collection": COLLECTION}, "question"),
            ("fetch", {"id": "nonsense"}, "an id that `search` gave"),
            ("query_collection", {"collection": COLLECTION, "query": "x", "limit": 0}, "limit"),
        ]:
            result = await client.call_tool(name, arguments)
            assert result.is_error and told in result.content[0].text, result.content

    with_client(address, "auto", fail)


def test_a_key_that_only_reads_sees_no_tool_that_writes(new_server, model):
    server = new_server(env={"CAIRN__SERVER__API_KEY": "full", "CAIRN__SERVER__READ_ONLY_API_KEY": "read"}).start()
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    names = {}
    for key in ["full", "read"]:
        answer = httpx.post(f"{server.url}/mcp", json=listing, headers={"api-key": key}, timeout=60).json()
        names[key] = {tool["name"] for tool in answer["result"]["tools"]}
    assert names["full"] - names["read"] == WRITING
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "remember", "arguments": {"information": "x"}}}
    refusal = httpx.post(f"{server.url}/mcp", json=call, headers={"api-key": "read"}, timeout=60).json()
    assert "there is no tool" in refusal["error"]["message"]
    assert httpx.post(f"{server.url}/mcp", json=listing, timeout=60).status_code in (401, 403)


def test_what_is_no_message_and_what_is_not_known_is_told(address):
    def post(body, **headers):
        return httpx.post(address, json=body, headers=headers, timeout=60)

    modern = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    assert post([1]).json()["error"]["code"] == -32600
    assert post({"jsonrpc": "2.0", "method": "notifications/initialized"}).status_code == 202
    unknown = post({"jsonrpc": "2.0", "id": 1, "method": "nothing"})
    assert unknown.json()["error"]["code"] == -32601
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": modern}}
    told = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}
    assert post(body, **told).json()["result"]["resultType"] == "complete"
    wrong = post(body, **{**told, "mcp-method": "tools/call"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, -32020)
    other = post({**body, "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}}})
    assert (other.status_code, other.json()["error"]["code"]) == (400, -32022)
    assert "2026-07-28" in other.json()["error"]["data"]["supported"]
    assert httpx.get(address, timeout=60).status_code == 405
