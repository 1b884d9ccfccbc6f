"""Bodies that nobody means: each gets an error, none a panic, and the listener goes on."""

import errno
import random
import socket
import threading
import time

import httpx
import pytest


@pytest.fixture
def filled(http, collection):
    http.put(f"/collections/{collection}", json={"vectors": {"size": 4, "distance": "Dot"}})
    points = [{"id": id, "vector": [id, 2, 3, 4], "payload": {"a": {"b": id}}} for id in range(1, 6)]
    assert http.put(f"/collections/{collection}/points?wait=true", json={"points": points}).status_code == 200
    yield f"/collections/{collection}"
    assert http.post(f"/collections/{collection}/points/count", json={}).json()["result"]["count"] == 5


@pytest.fixture(scope="module", autouse=True)
def no_panics(server):
    yield
    assert "panicked" not in server.log.read_text()


def refused(response):
    assert 400 <= response.status_code < 500, (response.status_code, response.text[:500])
    assert response.json()["status"]["error"]


def raw(http, path, body, method="POST"):
    headers = {"content-type": "application/json"}
    return http.request(method, path, content=body, headers=headers)


def nested(depth, before, inside, after):
    return before * depth + inside + after * depth


DEEP = {
    "filters": lambda depth: '{"filter":' + nested(depth, '{"must":[', '{"has_id":[1]}', "]}") + "}",
    "single conditions": lambda depth: '{"filter":' + nested(depth, '{"must":', '{"has_id":[1]}', "}") + "}",
    "arrays": lambda depth: '{"query":' + nested(depth, "[", "1", "]") + "}",
    "prefetches": lambda depth: nested(depth, '{"query":[1,2,3,4],"prefetch":', "{}", "}"),
    "formulas": lambda depth: '{"prefetch":{"query":[1,2,3,4]},"query":{"formula":'
    + nested(depth, '{"neg":', "1", "}")
    + "}}",
    "nested conditions": lambda depth: '{"filter":'
    + nested(depth, '{"must":[{"nested":{"key":"a","filter":', "{}", "}}]}")
    + "}",
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("depth", [30, 60, 125, 1000, 100_000])
def test_depth_is_an_error_and_not_the_end_of_a_stack(http, filled, kind, depth):
    response = raw(http, f"{filled}/points/query", DEEP[kind](depth))
    if depth > 125:
        refused(response)
    assert response.status_code < 500, response.text[:500]
    body = '{"points":[{"id":1,"vector":[1,2,3,4],"payload":' + nested(depth, '{"a":', "1", "}") + "}]}"
    if depth > 125:
        refused(raw(http, f"{filled}/points", body, "PUT"))


def test_giant_arrays_and_limits_are_answered(http, filled):
    path = f"{filled}/points/query"
    refused(http.post(path, json={"query": [0.5] * 200_000}))
    assert http.post(path, json={"query": [1, 2, 3, 4], "limit": 2**62}).status_code in (200, 400, 422)
    assert http.post(path, json={"query": [1, 2, 3, 4], "limit": 5, "offset": 2**62}).status_code == 200
    assert http.post(path, json={"query": [1, 2, 3, 4], "params": {"hnsw_ef": 2**62}}).status_code == 200
    assert http.post(f"{filled}/points/scroll", json={"limit": 2**63}).status_code == 200
    many = {"filter": {"must": [{"has_id": list(range(100_000))}]}}
    assert http.post(f"{filled}/points/count", json=many).json()["result"]["count"] == 5
    wide = {"filter": {"should": [{"key": "a.b", "match": {"value": n}} for n in range(5000)]}}
    assert http.post(f"{filled}/points/count", json=wide).json()["result"]["count"] == 5
    refused(http.post(path, json={"query": [1, 2, 3, 4], "limit": -1}))
    refused(http.post(path, json={"query": [1, 2, 3, 4], "limit": 2**70}))


def test_duplicate_keys_and_wrong_text_are_errors_or_harmless(http, filled):
    path = f"{filled}/points/query"
    assert raw(http, path, '{"query":[1,2,3,4],"query":[4,3,2,1]}').status_code in (200, 400)
    refused(raw(http, path, '{"limit":1,"limit":"x"}'))
    refused(raw(http, path, b'{"query":[1,2,3,4],"using":"\xff\xfe"}'))
    refused(raw(http, path, b"\x00\x01\x02"))
    refused(raw(http, path, '{"query":[1,2,3,4],"using":"\ud800"}'.encode("utf-8", "surrogatepass")))
    refused(raw(http, path, '{"query":[1,2,3,4]} {"query":[1,2,3,4]}'))
    assert http.get(f"{filled}/points/%ff").status_code == 400
    refused(http.get("/collections/%2e%2e%2fetc"))


PIECES = [
    "{", "}", "[", "]", ":", ",", '"', "1", "-1", "1e999", "null", "true", '"must"', '"key"', '"match"',
    '"value"', '"a"', '"a[]"', '"a["', '"range"', '"gte"', '"query"', '"nearest"', '"prefetch"', '"fusion"',
    '"rrf"', '"formula"', '"$score"', '"recommend"', '"positive"', '"context"', '"order_by"', '"sample"',
    '"filter"', '"nested"', '"min_should"', '"geo_radius"', '"limit"', '"using"', '"text"', '"model"',
    '"indices"', '"values"', '"has_id"', '"slice"', '"total"', '"index"', '"random"', '"mmr"',
]  # fmt: skip


def test_random_pieces_of_the_grammar_never_break_anything(http, filled):
    seed = random.randrange(1_000_000)
    print("seed", seed)
    dice = random.Random(seed)
    for _ in range(1500):
        body = "{" + "".join(dice.choice(PIECES) for _ in range(dice.randint(1, 30))) + "}"
        end = dice.choice(["query", "scroll", "count", "search", "recommend", "discover", "query/groups"])
        response = raw(http, f"{filled}/points/{end}", body)
        assert response.status_code < 500, (body, response.text)


def value(dice, depth):
    """A JSON value whose keys are words of the grammar."""
    keys = [piece.strip('"') for piece in PIECES if piece.startswith('"') and len(piece) > 1]
    kind = dice.random()
    if depth == 0 or kind < 0.4:
        return dice.choice([1, 0, -1, 2**40, 0.5, True, None, "a", "a[]", "a[0].b", "$score", "rrf", "random", [1, 2, 3, 4]])
    if kind < 0.6:
        return [value(dice, depth - 1) for _ in range(dice.randint(0, 4))]
    return {dice.choice(keys): value(dice, depth - 1) for _ in range(dice.randint(0, 3))}


def test_random_values_in_the_place_of_queries_and_filters_never_break_anything(http, filled):
    seed = random.randrange(1_000_000)
    print("seed", seed)
    dice = random.Random(seed)
    accepted = 0
    for _ in range(2500):
        body = {"query": value(dice, 4), "filter": value(dice, 3), "prefetch": value(dice, 3)}
        body = {key: body[key] for key in dice.sample(list(body), dice.randint(1, 3))}
        response = http.post(f"{filled}/points/query", json=body)
        assert response.status_code < 500, (body, response.text)
        accepted += response.status_code == 200
    print("accepted", accepted)
    assert accepted > 0


def test_a_body_that_never_ends_does_not_hold_up_others(server, http, filled):
    host, port = "127.0.0.1", server.port
    slow = [socket.create_connection((host, port)) for _ in range(64)]
    for connection in slow:
        head = f"POST {filled}/points/query HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n{{"
        connection.sendall(head.encode())
    started = time.monotonic()
    assert http.post(f"{filled}/points/count", json={}).status_code == 200
    assert time.monotonic() - started < 5
    for connection in slow:
        connection.close()


def test_pipelined_garbage_ends_its_own_connection_alone(server, http, filled):
    for garbage in (b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" + b"\x16\x03\x01" * 400, b"\xff" * 5000, b"\r\n" * 9):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            try:
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError as ended:
                # A connection that was reset is at its end too; one that is left waiting is not.
                assert ended.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN), ended
    assert http.get("/readyz").status_code == 200


def test_many_clients_at_once_are_answered_or_told_to_come_back(server, filled):
    statuses = []

    def ask():
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for _ in range(10):
                answer = client.post(f"{filled}/points/query", json={"query": [1, 2, 3, 4]})
                statuses.append(answer.status_code)
                assert answer.status_code == 200 or int(answer.headers["retry-after"]) >= 1

    threads = [threading.Thread(target=ask) for _ in range(40)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(statuses) == 400 and set(statuses) <= {200, 429}
