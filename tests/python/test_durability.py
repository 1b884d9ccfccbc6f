"""What was acknowledged is there after `kill -9`, and SIGTERM loses no request."""

import json
import random
import socket
import threading
import time

import httpx
import pytest
from conftest import SMALL_GRAPHS

ROUNDS = 50
WRITERS = 4
DIM = 8


def point(id, value):
    """The point that writing `value` under `id` gives: every part follows from the two."""
    vector = [((id * 31 + value * 7 + place) % 64) / 8 for place in range(DIM)]
    return {"id": id, "vector": vector, "payload": {"value": value, "text": f"{id}:{value} 🧭"}}


class Writer(threading.Thread):
    """Upserts points of its own until the server is gone; keeps what was acknowledged.

    `sent` holds, by id, what was sent after the last acknowledged value: a
    crash may have kept or lost it, both are right.
    """

    def __init__(self, url, acknowledged, sent, ids, seed):
        super().__init__()
        self.url, self.acknowledged, self.sent, self.ids = url, acknowledged, sent, ids
        self.random = random.Random(seed)
        self.count = 0
        self.refused = None

    def run(self):
        with httpx.Client(base_url=self.url, timeout=30) as http:
            try:
                while self.write(http):
                    pass
            except httpx.TransportError:
                pass  # the server was killed

    def write(self, http):
        ids = self.random.sample(self.ids, self.random.randrange(1, 6))
        values = {id: max(self.sent.get(id, [0])[-1], self.acknowledged.get(id, 0)) + 1 for id in ids}
        for id, value in values.items():
            self.sent.setdefault(id, []).append(value)
        body = {"points": [point(id, value) for id, value in values.items()]}
        response = http.put("/collections/c/points?wait=true", json=body)
        if response.status_code != 200:
            self.refused = response.text
            return False
        for id, value in values.items():
            self.acknowledged[id] = value
            del self.sent[id]
        self.count += len(values)
        return True


def lost(http, acknowledged, sent):
    """The acknowledged points that are missing or differ from what was written."""
    missing = []
    ids = sorted(acknowledged)
    for start in range(0, len(ids), 500):
        page = ids[start : start + 500]
        response = http.post("/collections/c/points", json={"ids": page, "with_vector": True})
        records = {record["id"]: record for record in response.json()["result"]}
        for id in page:
            allowed = [point(id, value) for value in (acknowledged[id], *sent.get(id, []))]
            if records.get(id) not in allowed:
                missing.append((id, acknowledged[id], records.get(id)))
    return missing


@pytest.mark.parametrize("store", ["sled", "redb"])
def test_no_acknowledged_point_is_lost_over_fifty_kills(new_server, capsys, store):
    seed = random.randrange(1_000_000)
    print("seed", seed)
    randoms = random.Random(seed)
    server = new_server(env={**SMALL_GRAPHS, "CAIRN__INDEX__STORE": store}).start()
    http = httpx.Client(base_url=server.url, timeout=60)
    assert http.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Dot"}}).is_success
    # Each writer has ids of its own, so that the last acknowledged value is known.
    acknowledged = [{} for _ in range(WRITERS)]
    sent = [{} for _ in range(WRITERS)]
    ids = [range(writer, 4000, WRITERS) for writer in range(WRITERS)]
    writes, began = 0, time.monotonic()

    for round in range(ROUNDS):
        writers = [
            Writer(server.url, acknowledged[n], sent[n], ids[n], randoms.random()) for n in range(WRITERS)
        ]
        for writer in writers:
            writer.start()
        time.sleep(randoms.uniform(0.02, 0.5))
        server.kill9()
        for writer in writers:
            writer.join()
            assert writer.refused is None, f"round {round}: {writer.refused}"
        writes += sum(writer.count for writer in writers)

        server.start()
        for n in range(WRITERS):
            assert lost(http, acknowledged[n], sent[n]) == [], f"round {round}, seed {seed}"
        known = {id for each in (*acknowledged, *sent) for id in each}
        count = http.post("/collections/c/points/count", json={}).json()["result"]["count"]
        assert sum(map(len, acknowledged)) <= count <= len(known)
        assert_found(http, acknowledged, randoms)

    http.close()
    with capsys.disabled():
        print(
            f"\n{ROUNDS} kills in {time.monotonic() - began:.0f} s: "
            f"{writes} points acknowledged, {sum(map(len, acknowledged))} ids, 0 lost"
        )
    assert writes > ROUNDS


def assert_found(http, acknowledged, randoms):
    """A point that was acknowledged is also what a search for it finds."""
    id = randoms.choice([id for each in acknowledged for id in each] or [None])
    if id is None:
        return
    here = {"must": [{"has_id": [id]}]}
    query = {"query": [1] * DIM, "filter": here, "limit": 1}
    hits = http.post("/collections/c/points/query", json=query).json()["result"]["points"]
    assert [hit["id"] for hit in hits] == [id]


def slow_request(server, body):
    """Sends half of an upsert; returns what sends the rest and reads the answer."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    data = json.dumps(body).encode()
    head = (
        "PUT /collections/c/points?wait=true HTTP/1.1\r\n"
        f"host: 127.0.0.1:{server.port}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    half = len(data) // 2
    connection.sendall(head.encode() + data[:half])

    def finish():
        connection.sendall(data[half:])
        with connection:
            return connection.makefile("rb").readline()

    return finish


def test_a_request_in_flight_is_answered_after_sigterm_and_kept(new_server):
    server = new_server().start()
    http = httpx.Client(base_url=server.url, timeout=30)
    assert http.put("/collections/c", json={"vectors": {"size": DIM, "distance": "Dot"}}).is_success
    points = [point(id, 1) for id in range(200)]
    finish = slow_request(server, {"points": points})
    time.sleep(0.3)

    codes = []
    stopping = threading.Thread(target=lambda: codes.append(server.stop()))
    stopping.start()
    time.sleep(0.5)
    assert b" 200 " in finish()
    stopping.join()
    assert codes == [0]

    server.start()
    assert lost(http, {id: 1 for id in range(200)}, {}) == []
    http.close()


def test_an_idle_connection_does_not_hold_up_the_end(new_server):
    server = new_server().start()
    with httpx.Client(base_url=server.url) as http:
        assert http.get("/readyz").status_code == 200  # and the connection stays open
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10


def test_a_restart_keeps_collections_points_and_deletes(new_server):
    server = new_server().start()
    http = httpx.Client(base_url=server.url, timeout=30)
    for name, distance in [("c", "Dot"), ("dropped", "Cosine")]:
        body = {"vectors": {"size": DIM, "distance": distance}}
        assert http.put(f"/collections/{name}", json=body).is_success
    points = [point(id, 1) for id in range(500)]
    assert http.put("/collections/c/points?wait=true", json={"points": points}).is_success
    gone = list(range(0, 500, 5))
    assert http.post("/collections/c/points/delete?wait=true", json={"points": gone}).is_success
    assert http.delete("/collections/dropped").json()["result"] is True
    query = {"query": [1, 0, 2, 0, 3, 0, 4, 0], "limit": 20, "params": {"exact": True}}
    before = http.post("/collections/c/points/query", json=query).json()["result"]

    for end in (server.stop, server.kill9):
        end()
        server.start()
        names = [each["name"] for each in http.get("/collections").json()["result"]["collections"]]
        assert names == ["c"]
        assert lost(http, {id: 1 for id in range(500) if id % 5}, {}) == []
        assert http.post("/collections/c/points/count", json={}).json()["result"]["count"] == 400
        after = http.post("/collections/c/points/query", json=query).json()["result"]
        scores = [hit["score"] for hit in before["points"]]
        assert [hit["score"] for hit in after["points"]] == scores
    http.close()
