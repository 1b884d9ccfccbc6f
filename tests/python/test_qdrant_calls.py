"""Every call of the client that changes or describes something, once, against what the documents say.

Random comparisons with local mode are in test_local_mode; here is what local mode has
not, or answers otherwise.
"""

import hashlib
import json
import subprocess
import time
from random import Random

import httpx
import jwt
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse


def dot(size=4, **more):
    return models.VectorParams(size=size, distance=models.Distance.DOT, **more)


def fill(qdrant, collection, count=20, **config):
    qdrant.create_collection(collection, vectors_config=dot(), **config)
    points = [
        models.PointStruct(id=id, vector=[id, 1, 0, 0], payload={"n": id, "even": id % 2 == 0})
        for id in range(1, count + 1)
    ]
    qdrant.upsert(collection, points)


def refused(status, call):
    with pytest.raises(UnexpectedResponse) as error:
        call()
    assert error.value.status_code == status, error.value.content
    return json.loads(error.value.content)["status"]["error"]


def test_settings_come_back_and_those_without_effect_are_named(qdrant, collection):
    qdrant.create_collection(
        collection,
        vectors_config={
            "a": dot(on_disk=True, datatype=models.Datatype.FLOAT16),
            "b": dot(
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
            ),
        },
        sparse_vectors_config={
            "s": models.SparseVectorParams(
                modifier=models.Modifier.IDF, index=models.SparseIndexParams(on_disk=True)
            )
        },
        hnsw_config=models.HnswConfigDiff(m=24, ef_construct=128, payload_m=8),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=5000),
        wal_config=models.WalConfigDiff(wal_capacity_mb=64),
        quantization_config=models.ProductQuantization(
            product=models.ProductQuantizationConfig(compression=models.CompressionRatio.X16)
        ),
        on_disk_payload=False,
        strict_mode_config=models.StrictModeConfig(enabled=False, max_query_limit=7),
        metadata={"owner": "us"},
        shard_number=2,
    )
    info = qdrant.get_collection(collection)
    params, config = info.config.params, info.config
    assert (params.vectors["a"].on_disk, params.vectors["a"].datatype) == (True, models.Datatype.FLOAT16)
    assert params.vectors["b"].multivector_config.comparator == models.MultiVectorComparator.MAX_SIM
    assert params.sparse_vectors["s"].modifier == models.Modifier.IDF
    assert params.sparse_vectors["s"].index.on_disk is True
    assert (config.hnsw_config.m, config.hnsw_config.ef_construct, config.hnsw_config.payload_m) == (24, 128, 8)
    assert config.optimizer_config.indexing_threshold == 5000
    assert config.wal_config.wal_capacity_mb == 64
    assert config.quantization_config.product.compression == models.CompressionRatio.X16
    assert (params.on_disk_payload, params.shard_number) == (False, 2)
    assert config.strict_mode_config.max_query_limit == 7
    assert config.metadata == {"owner": "us"}
    warnings = " ".join(warning.message for warning in info.warnings)
    for setting in ("shard_number", "optimizers_config", "wal_config", "hnsw_config"):
        assert setting in warnings, warnings
    assert "quantization" not in warnings, warnings

    qdrant.update_collection(
        collection,
        hnsw_config=models.HnswConfigDiff(m=32),
        quantization_config=models.Disabled.DISABLED,
        vectors_config={"a": models.VectorParamsDiff(on_disk=False)},
        metadata={"team": "them"},
    )
    info = qdrant.get_collection(collection)
    assert (info.config.hnsw_config.m, info.config.hnsw_config.ef_construct) == (32, 128)
    assert info.config.quantization_config is None
    assert info.config.params.vectors["a"].on_disk is False
    assert info.config.metadata == {"owner": "us", "team": "them"}


@pytest.mark.parametrize(
    "quantization",
    [
        {"scalar": {"type": "int8"}},
        {"turbo": {"bits": "bits4"}},
        {"binary": {}},
        {"product": {"compression": "x8"}},
        {"product": {"compression": "x32"}},
    ],
)
def test_a_search_finds_the_part_it_asks_for_with_every_quantization(http, collection, quantization):
    path = f"/collections/{collection}"
    vectors = {"size": 128, "distance": "Cosine"}
    settings = {"vectors": vectors, "quantization_config": quantization}
    assert http.put(path, json=settings).status_code == 200
    random = Random(7)
    rows = [[random.gauss(0, 1) for _ in range(128)] for _ in range(2100)]
    points = [{"id": number, "vector": row} for number, row in enumerate(rows[:2000])]
    assert http.put(f"{path}/points", json={"points": points}).status_code == 200
    wait_until_indexed(http, path)

    def ids(query, params):
        found = http.post(f"{path}/points/query", json={"query": query, "params": params})
        assert found.status_code == 200, found.text
        return {point["id"] for point in found.json()["result"]["points"]}

    def found(recall):
        return sum(
            len(ids(query, {"recall": recall}) & ids(query, {"exact": True})) for query in rows[2000:]
        )

    assert found(0.97) >= 940
    assert found(1.0) == 1000
    refused = http.post(f"{path}/points/query", json={"query": rows[0], "params": {"recall": 1.5}})
    assert refused.status_code == 400
    assert "must be above 0 and at most 1" in refused.json()["status"]["error"]


def test_codes_can_be_passed_over_or_be_all_that_is_measured(http, collection):
    path = f"/collections/{collection}"
    settings = {
        "vectors": {"size": 64, "distance": "Dot"},
        "quantization_config": {"product": {"compression": "x16"}},
    }
    assert http.put(path, json=settings).status_code == 200
    random = Random(8)
    rows = [[random.gauss(0, 1) for _ in range(64)] for _ in range(2020)]
    points = [{"id": number, "vector": row} for number, row in enumerate(rows[:2000])]
    assert http.put(f"{path}/points", json={"points": points}).status_code == 200
    wait_until_indexed(http, path)

    def scores(query, quantization):
        params = {"hnsw_ef": 200, "quantization": quantization}
        found = http.post(f"{path}/points/query", json={"query": query, "params": params})
        assert found.status_code == 200, found.text
        return [(point["id"], point["score"]) for point in found.json()["result"]["points"]]

    def true(query, id):
        return sum(a * b for a, b in zip(query, rows[id], strict=True))

    estimated = 0
    for query in rows[2000:]:
        for quantization in ({}, {"ignore": True}, {"rescore": True}):
            for id, score in scores(query, quantization):
                assert score == pytest.approx(true(query, id), abs=1e-3), quantization
        for id, score in scores(query, {"rescore": False}):
            estimated += abs(score - true(query, id)) > 1e-2
            assert score == pytest.approx(true(query, id), abs=20)
    assert estimated > 150, "codes alone give estimates"


def wait_until_indexed(http, path):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        info = http.get(path).json()["result"]
        if info["status"] == "green" and info["indexed_vectors_count"] > 0:
            return
        time.sleep(0.05)
    raise AssertionError(f"no graph within a minute: {info}")


def test_aliases_are_created_swapped_renamed_and_removed(qdrant, collection):
    other = collection + "-b"
    fill(qdrant, collection, 3)
    fill(qdrant, other, 5)
    alias = "alias-" + collection
    create = lambda name: models.CreateAliasOperation(  # noqa: E731
        create_alias=models.CreateAlias(collection_name=name, alias_name=alias)
    )
    delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
    try:
        assert qdrant.update_collection_aliases([create(collection)])
        assert qdrant.count(alias).count == 3
        assert qdrant.update_collection_aliases([delete, create(other)])
        assert qdrant.count(alias).count == 5
        assert [a.alias_name for a in qdrant.get_collection_aliases(other).aliases] == [alias]
        assert alias in [a.alias_name for a in qdrant.get_aliases().aliases]
        rename = models.RenameAlias(old_alias_name=alias, new_alias_name=alias + "-new")
        assert qdrant.update_collection_aliases([models.RenameAliasOperation(rename_alias=rename)])
        assert qdrant.get_collection(alias + "-new").points_count == 5
        assert "already exists" in refused(409, lambda: qdrant.create_collection(alias + "-new", vectors_config=dot()))
    finally:
        qdrant.delete_collection(other)
    assert qdrant.get_aliases().aliases == []


INDEXES = {
    "keyword": models.KeywordIndexParams(type="keyword", is_tenant=True),
    "integer": models.IntegerIndexParams(type="integer", lookup=True, range=False),
    "float": models.FloatIndexParams(type="float", is_principal=True),
    "geo": models.GeoIndexParams(type="geo"),
    "text": models.TextIndexParams(
        type="text",
        tokenizer=models.TokenizerType.WORD,
        min_token_len=2,
        lowercase=True,
        phrase_matching=True,
        stopwords=models.Language.ENGLISH,
        stemmer=models.SnowballParams(type="snowball", language=models.SnowballLanguage.ENGLISH),
    ),
    "bool": models.BoolIndexParams(type="bool"),
    "datetime": models.DatetimeIndexParams(type="datetime"),
    "uuid": models.UuidIndexParams(type="uuid"),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_every_kind_of_payload_index_is_made_described_and_dropped(qdrant, collection, kind):
    fill(qdrant, collection, 4)
    for schema in (models.PayloadSchemaType(kind), INDEXES[kind]):
        done = qdrant.create_payload_index(collection, "n", field_schema=schema)
        assert done.status == models.UpdateStatus.COMPLETED
        field = qdrant.get_collection(collection).payload_schema["n"]
        assert (field.data_type, field.points) == (models.PayloadSchemaType(kind), 4)
    assert qdrant.delete_payload_index(collection, "n").status == models.UpdateStatus.COMPLETED
    assert qdrant.get_collection(collection).payload_schema == {}


def test_a_text_index_matches_words_and_phrases(qdrant, collection):
    qdrant.create_collection(collection, vectors_config=dot())
    texts = {1: "The stones of the Pile", 2: "a stone wall", 3: "pile of stones", 4: "milestone"}
    points = [models.PointStruct(id=id, vector=[1, 0, 0, 0], payload={"t": t}) for id, t in texts.items()]
    qdrant.upsert(collection, points)

    def matching(match):
        condition = models.Filter(must=[models.FieldCondition(key="t", match=match)])
        return [record.id for record in qdrant.scroll(collection, scroll_filter=condition)[0]]

    # Without an index these are substrings, as they stand.
    assert matching(models.MatchText(text="stone")) == [1, 2, 3, 4]
    assert matching(models.MatchText(text="pile")) == [3]
    assert matching(models.MatchPhrase(phrase="of stones")) == [3]
    qdrant.create_payload_index(collection, "t", field_schema=INDEXES["text"])
    assert matching(models.MatchText(text="stone pile")) == [1, 3]
    assert matching(models.MatchTextAny(text_any="wall piles")) == [1, 2, 3]
    assert matching(models.MatchPhrase(phrase="stone wall")) == [2]


def test_vectors_are_added_to_a_living_collection_and_dropped(qdrant, http, collection):
    fill(qdrant, collection, 3)
    path = f"/collections/{collection}/vectors"
    assert http.put(f"{path}/more", json={"dense": {"size": 2, "distance": "Cosine"}}).status_code == 200
    assert http.put(f"{path}/words", json={"sparse": {"modifier": "idf"}}).status_code == 200
    vectors = {"more": [3, 4], "words": models.SparseVector(indices=[7, 1], values=[1, 2])}
    qdrant.update_vectors(collection, [models.PointVectors(id=1, vector=vectors)])
    [record] = qdrant.retrieve(collection, [1], with_vectors=True)
    assert record.vector["more"] == pytest.approx([0.6, 0.8], abs=1e-6)
    assert record.vector["words"].indices == [1, 7]
    assert [hit.id for hit in qdrant.query_points(collection, query=[1, 1], using="more").points] == [1]
    assert http.delete(f"{path}/more").status_code == 200
    assert "more" in refused(400, lambda: qdrant.query_points(collection, query=[1, 1], using="more"))


@pytest.mark.parametrize("datatype", [models.Datatype.FLOAT16, models.Datatype.UINT8])
def test_vectors_of_fewer_bytes_are_stored_as_such(qdrant, collection, datatype):
    qdrant.create_collection(collection, vectors_config=dot(datatype=datatype))
    qdrant.upsert(collection, [models.PointStruct(id=1, vector=[1, 2, 3, 200])])
    [record] = qdrant.retrieve(collection, [1], with_vectors=True)
    assert record.vector == [1, 2, 3, 200]
    assert qdrant.query_points(collection, query=[0, 0, 0.5, 1]).points[0].score == 201.5


def test_a_batch_is_carried_out_in_order(qdrant, collection):
    fill(qdrant, collection, 4)
    ids = models.PointIdsList
    operations = [
        models.UpsertOperation(
            upsert=models.PointsList(points=[models.PointStruct(id=9, vector=[9, 0, 0, 0], payload={"a": 1})])
        ),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload={"b": {"c": 2}}, points=[9])),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload={"d": 3}, points=[9], key="b")),
        models.OverwritePayloadOperation(overwrite_payload=models.SetPayload(payload={"x": 1}, points=[1])),
        models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["b.c"], points=[9])),
        models.ClearPayloadOperation(clear_payload=ids(points=[2])),
        models.UpdateVectorsOperation(
            update_vectors=models.UpdateVectors(points=[models.PointVectors(id=3, vector=[0, 0, 0, 5])])
        ),
        models.DeleteVectorsOperation(delete_vectors=models.DeleteVectors(points=[4], vector=[""])),
        models.DeleteOperation(delete=ids(points=[77])),
    ]
    results = qdrant.batch_update_points(collection, operations)
    assert [result.status for result in results] == [models.UpdateStatus.COMPLETED] * len(operations)
    numbers = [result.operation_id for result in results]
    assert numbers == sorted(set(numbers))
    records = {r.id: r for r in qdrant.scroll(collection, with_vectors=True)[0]}
    assert records[9].payload == {"a": 1, "b": {"d": 3}}
    assert records[1].payload == {"x": 1}
    assert not records[2].payload
    assert records[3].vector == [0, 0, 0, 5]
    assert records[4].vector == {}
    # Not atomic: what was before the mistake stays.
    bad = models.SetPayloadOperation(set_payload=models.SetPayload(payload={"y": 1}, points=[12345]))
    first = models.SetPayloadOperation(set_payload=models.SetPayload(payload={"y": 1}, points=[1]))
    text = refused(404, lambda: qdrant.batch_update_points(collection, [first, bad]))
    assert text == "Not found: No point with id 12345 found"
    assert qdrant.retrieve(collection, [1])[0].payload == {"x": 1, "y": 1}


def test_an_upsert_can_insert_or_update_alone_or_under_a_condition(qdrant, http, collection):
    fill(qdrant, collection, 2)
    path = f"/collections/{collection}/points?wait=true"
    points = [{"id": id, "vector": [0, 0, 0, id], "payload": {"new": True}} for id in (1, 2, 3)]

    def new():
        return [r.id for r in qdrant.scroll(collection)[0] if r.payload.get("new")]

    assert http.put(path, json={"points": points, "update_mode": "insert_only"}).status_code == 200
    assert new() == [3]
    condition = {"must": [{"key": "even", "match": {"value": True}}]}
    assert http.put(path, json={"points": points, "update_filter": condition}).status_code == 200
    assert new() == [2, 3]
    points[0]["id"] = 8
    assert http.put(path, json={"points": points, "update_mode": "update_only"}).status_code == 200
    assert qdrant.count(collection).count == 3


def test_a_null_removes_its_key_when_a_payload_is_set(qdrant, collection):
    fill(qdrant, collection, 1)
    qdrant.set_payload(collection, payload={"n": None, "m": 1}, points=[1])
    assert qdrant.retrieve(collection, [1])[0].payload == {"even": False, "m": 1}


def test_snapshots_are_made_listed_downloaded_uploaded_recovered_and_removed(qdrant, server, collection):
    fill(qdrant, collection, 12)
    made = qdrant.create_snapshot(collection)
    assert [s.name for s in qdrant.list_snapshots(collection)] == [made.name]
    url = f"{server.url}/collections/{collection}/snapshots/{made.name}"
    packed = httpx.get(url, timeout=60).content
    assert len(packed) > 1000
    qdrant.delete(collection, points_selector=[1, 2, 3])
    checksum = hashlib.sha256(packed).hexdigest()
    upload = f"{server.url}/collections/{collection}/snapshots/upload"
    form = {"snapshot": ("s.snapshot", packed)}
    wrong = httpx.post(f"{upload}?checksum={'0' * 64}", files=form, timeout=60)
    assert wrong.status_code == 400 and "checksum" in wrong.text
    assert qdrant.count(collection).count == 9
    done = httpx.post(f"{upload}?priority=snapshot&checksum={checksum}", files=form, timeout=60)
    assert done.json()["result"] is True, done.text
    assert qdrant.count(collection).count == 12
    # By address, into a collection that was not there.
    other = collection + "-copy"
    try:
        assert qdrant.recover_snapshot(other, location=url) is True
        assert qdrant.count(other).count == 12
        hits = qdrant.query_points(other, query=[1, 0, 0, 0], limit=2).points
        assert [hit.id for hit in hits] == [12, 11]
    finally:
        qdrant.delete_collection(other)
    broken = httpx.post(upload, files={"snapshot": ("s", packed[: len(packed) // 2])}, timeout=60)
    assert broken.status_code == 400, broken.text
    assert qdrant.count(collection).count == 12
    for snapshot in qdrant.list_snapshots(collection):
        qdrant.delete_snapshot(collection, snapshot.name)
    assert qdrant.list_snapshots(collection) == []
    assert "not found" in refused(404, lambda: qdrant.delete_snapshot(collection, made.name))


def test_a_snapshot_of_everything_comes_back_elsewhere(qdrant, server, collection, binary, tmp_path):
    fill(qdrant, collection, 7)
    alias = collection + "-alias"
    change = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=collection, alias_name=alias))
    qdrant.update_collection_aliases(change_aliases_operations=[change])
    made = qdrant.create_full_snapshot()
    assert made.size > 0 and made.name in [s.name for s in qdrant.list_full_snapshots()]
    file = tmp_path / "all.snapshot"
    file.write_bytes(httpx.get(f"{server.url}/snapshots/{made.name}", timeout=60).content)
    command = [str(binary), "--data-dir", str(tmp_path / "elsewhere")]
    restored = subprocess.run([*command, "--json", "snapshot", "restore", str(file)], capture_output=True, text=True)
    assert restored.returncode == 0, restored.stderr
    assert collection in json.loads(restored.stdout)["restored"]
    # One collection of the other data directory, back into this server.
    one = tmp_path / "one.snapshot"
    packed = subprocess.run([*command, "snapshot", "create", str(one), "--collection", alias], capture_output=True)
    assert packed.returncode == 0, packed.stderr
    copy = collection + "-back"
    form = {"snapshot": ("s", one.read_bytes())}
    done = httpx.post(f"{server.url}/collections/{copy}/snapshots/upload", files=form, timeout=60)
    assert done.json()["result"] is True and qdrant.count(copy).count == 7
    qdrant.delete_collection(copy)
    broken = tmp_path / "broken"
    broken.write_bytes(file.read_bytes()[:2000])
    refusal = subprocess.run([*command, "snapshot", "restore", str(broken)], capture_output=True, text=True)
    assert refusal.returncode != 0 and "panicked" not in refusal.stderr
    assert qdrant.delete_full_snapshot(made.name) is True
    assert "not found" in refused(404, lambda: qdrant.delete_full_snapshot(made.name))


def test_a_snapshot_that_nobody_waits_for_is_made_all_the_same(http, qdrant, collection):
    fill(qdrant, collection, 2)
    response = http.post(f"/collections/{collection}/snapshots?wait=false")
    assert (response.status_code, response.json()["status"]) == (202, "accepted")
    end = time.monotonic() + 20
    while not qdrant.list_snapshots(collection):
        assert time.monotonic() < end, "no snapshot was made"
        time.sleep(0.05)


def test_strict_mode_keeps_to_its_limits(qdrant, http, collection):
    limits = models.StrictModeConfig(
        enabled=True,
        max_query_limit=5,
        unindexed_filtering_retrieve=False,
        search_allow_exact=False,
        search_max_hnsw_ef=64,
        upsert_max_batchsize=30,
        filter_max_conditions=2,
    )
    fill(qdrant, collection, 20)
    qdrant.update_collection(collection, strict_mode_config=limits)
    ask = lambda **more: qdrant.query_points(collection, query=[1, 0, 0, 0], **{"limit": 5, **more})  # noqa: E731
    even = models.FieldCondition(key="even", match=models.MatchValue(value=True))
    assert len(ask().points) == 5
    assert "limit" in refused(403, lambda: ask(limit=6))
    refused(403, lambda: ask(search_params=models.SearchParams(exact=True)))
    refused(403, lambda: ask(search_params=models.SearchParams(hnsw_ef=65)))
    every_point = {"query": [1, 0, 0, 0], "limit": 5, "params": {"recall": 1.0}}
    assert http.post(f"/collections/{collection}/points/query", json=every_point).status_code == 403
    text = refused(400, lambda: ask(query_filter=models.Filter(must=[even])))
    assert 'Index required but not found for "even" of one of the following types' in text
    qdrant.create_payload_index(collection, "even", field_schema="bool")
    assert len(ask(query_filter=models.Filter(must=[even])).points) == 5
    refused(403, lambda: ask(query_filter=models.Filter(must=[even, even, even])))
    many = [models.PointStruct(id=id, vector=[1, 0, 0, 0]) for id in range(31)]
    refused(403, lambda: qdrant.upsert(collection, many))


def test_strict_mode_stops_writes_when_there_is_enough(qdrant, collection):
    fill(qdrant, collection, 20)
    for field, what in [("vector", 20 * 4 * 4), ("payload", 100)]:
        limit = {f"max_collection_{field}_size_bytes": what}
        qdrant.update_collection(collection, strict_mode_config=models.StrictModeConfig(enabled=True, **limit))
        point = models.PointStruct(id=1, vector=[1, 0, 0, 0], payload={"even": True})
        assert f"Max {field} storage size limit" in refused(400, lambda: qdrant.upsert(collection, [point]))
        limit = dict.fromkeys(limit, 10**9)
        qdrant.update_collection(collection, strict_mode_config=models.StrictModeConfig(**limit))
        qdrant.upsert(collection, [point])


def test_oversampling_is_a_number_from_one_and_can_be_limited(qdrant, collection):
    fill(qdrant, collection, 20)
    limits = models.StrictModeConfig(enabled=True, search_max_oversampling=2.0)
    qdrant.update_collection(collection, strict_mode_config=limits)

    def ask(oversampling):
        quantization = models.QuantizationSearchParams(oversampling=oversampling)
        params = models.SearchParams(quantization=quantization)
        return qdrant.query_points(collection, query=[1, 0, 0, 0], limit=3, search_params=params).points

    assert len(ask(2.0)) == 3
    assert "oversampling" in refused(403, lambda: ask(2.5))
    assert "oversampling" in refused(422, lambda: ask(0.5))


def test_reads_a_minute_can_be_limited(server, qdrant, collection):
    fill(qdrant, collection, 2)
    limits = models.StrictModeConfig(enabled=True, read_rate_limit=3)
    qdrant.update_collection(collection, strict_mode_config=limits)
    url = f"{server.url}/collections/{collection}/points/count"
    answers = [httpx.post(url, json={}, timeout=60) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20


def test_bm25_is_a_model_like_others_and_tokens_are_reported(qdrant, http, collection):
    qdrant.create_collection(
        collection, sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)}
    )
    texts = {1: "a pile of stones", 2: "the river bed", 3: "stones, stones and more stones"}
    points = [
        models.PointStruct(id=id, vector={"words": models.Document(text=text, model="Qdrant/bm25")})
        for id, text in texts.items()
    ]
    qdrant.upsert(collection, points)
    document = models.Document(text="stone", model="qdrant/bm25")
    hits = qdrant.query_points(collection, query=document, using="words").points
    assert [hit.id for hit in hits] == [3, 1]
    body = {"query": {"text": "stone river", "model": "qdrant/bm25"}, "using": "words"}
    answer = http.post(f"/collections/{collection}/points/query", json=body).json()
    assert answer["usage"]["inference"]["models"]["qdrant/bm25"]["tokens"] == 2
    answer = http.post(f"/collections/{collection}/points/query", json={"query": None}).json()
    assert "usage" not in answer


def test_older_endpoints_answer_with_a_bare_list(http, qdrant, collection):
    fill(qdrant, collection, 10)
    path = f"/collections/{collection}/points"
    ask = lambda end, body: http.post(f"{path}/{end}", json=body).json()["result"]  # noqa: E731
    assert [hit["id"] for hit in ask("search", {"vector": [1, 0, 0, 0], "top": 2})] == [10, 9]
    named = {"vector": {"name": "", "vector": [1, 0, 0, 0]}, "limit": 1}
    assert [[hit["id"] for hit in hits] for hits in ask("search/batch", {"searches": [named]})] == [[10]]
    groups = ask("search/groups", {"vector": [1, 0, 0, 0], "limit": 2, "group_by": "n", "group_size": 1})
    assert [group["id"] for group in groups["groups"]] == [10, 9]
    assert [hit["id"] for hit in ask("recommend", {"positive": [10], "limit": 2})] == [9, 8]
    best = {"positive": [1], "negative": [[0, 1, 0, 0]], "strategy": "best_score", "limit": 1}
    assert len(ask("recommend/batch", {"searches": [best]})[0]) == 1
    discover = {"target": [1, 0, 0, 0], "context": [{"positive": 3, "negative": 1}], "limit": 3}
    assert 3 not in [hit["id"] for hit in ask("discover", discover)]
    assert "missing field `limit`" in http.post(f"{path}/search", json={"vector": [1, 0, 0, 0]}).text


def test_service_endpoints_answer_in_their_shapes(qdrant, http, collection):
    fill(qdrant, collection, 2)
    assert http.get("/healthz").text == "healthz check passed"
    assert http.get("/readyz").text.startswith("all shards are ready")
    assert "cairn_collection_points" in http.get("/metrics").text
    assert http.get("/telemetry").json()["result"]["app"]["name"] == "cairn"
    assert http.get("/cluster").json()["result"] == {"status": "disabled"}
    assert http.get("/issues").json()["result"] == {"issues": []}
    assert http.delete("/issues").json()["result"] is True
    path = f"/collections/{collection}"
    assert http.get(f"{path}/optimizations").json()["result"]["running"] == []
    assert http.get(f"{path}/cluster").json()["result"]["local_shards"][0]["points_count"] == 2
    assert http.get(f"{path}/shards").json()["result"] == {"shard_keys": []}
    assert http.post("/cluster/recover").status_code == 405
    description = http.get("/openapi.json").json()
    assert description["openapi"].startswith("3.1")


KEY, READING = "a-long-random-key", "another-one"


@pytest.fixture
def guarded(new_server):
    return new_server(
        env={"CAIRN__SERVER__API_KEY": KEY, "CAIRN__SERVER__READ_ONLY_API_KEY": READING}
    ).start()


def signed(claims, key=KEY):
    return jwt.encode(claims, key, algorithm="HS256")


def test_keys_and_tokens_allow_what_they_are_for(guarded):
    def client(key):
        return QdrantClient(url=guarded.url, api_key=key, check_compatibility=False, timeout=60)

    full = client(KEY)
    fill(full, "a", 3)
    fill(full, "b", 3)
    point = models.PointStruct(id=1, vector=[1, 0, 0, 0])

    reading = client(READING)
    assert reading.count("a").count == 3
    refused_text(403, lambda: reading.upsert("a", [point]))
    refused_text(403, lambda: reading.delete_collection("a"))
    for wrong in (None, "wrong", KEY + "x"):
        refused_text(401, lambda: client(wrong).count("a"))
    assert httpx.get(f"{guarded.url}/readyz").status_code == 200
    assert httpx.get(f"{guarded.url}/metrics").status_code == 401
    bearer = {"authorization": f"Bearer {READING}"}
    assert httpx.get(f"{guarded.url}/collections", headers=bearer).status_code == 200

    one = client(signed({"access": [{"collection": "a", "access": "rw"}]}))
    one.upsert("a", [point])
    assert [c.name for c in one.get_collections().collections] == ["a"]
    refused_text(403, lambda: one.count("b"))
    refused_text(403, lambda: one.delete_collection("a"))
    lookup = models.LookupLocation(collection="b")
    refused_text(403, lambda: one.query_points("a", query=1, lookup_from=lookup))
    refused_text(403, lambda: one.query_points_groups("a", query=[1, 0, 0, 0], group_by="n", with_lookup="b"))

    assert client(signed({"access": "r"})).count("b").count == 3
    refused_text(403, lambda: client(signed({"access": "r"})).upsert("a", [point]))
    refused_text(401, lambda: client(signed({"access": "r", "exp": 1})).count("a"))
    refused_text(401, lambda: client(signed({"access": "m"}, "another key")).count("a"))
    there = {"collection": "a", "matches": [{"key": "n", "value": 2}]}
    gone = {"collection": "a", "matches": [{"key": "n", "value": 99}]}
    assert client(signed({"access": "r", "value_exists": there})).count("a").count == 3
    refused_text(401, lambda: client(signed({"access": "r", "value_exists": gone})).count("a"))
    log = guarded.log.read_text()
    assert KEY not in log and READING not in log


def refused_text(status, call):
    with pytest.raises(UnexpectedResponse) as error:
        call()
    assert error.value.status_code == status, error.value.content


def test_without_a_key_only_this_machine_is_listened_to(new_server):
    import subprocess

    server = new_server()
    command = [part if part != "127.0.0.1" else "0.0.0.0" for part in server.command()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=server.env)
    assert done.returncode != 0
    assert "server.api_key" in done.stderr


def test_web_pages_of_other_sites_are_kept_out(http, server):
    foreign = {"origin": "https://example.org"}
    assert http.get("/collections", headers=foreign).status_code == 403
    preflight = {**foreign, "access-control-request-method": "PUT"}
    answer = http.options("/collections/a", headers=preflight)
    assert "access-control-allow-origin" not in answer.headers
    local = {"origin": "http://localhost:5173"}
    answer = http.get("/collections", headers=local)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, local["origin"])
    assert http.get("/collections", headers={"host": "rebound.example.org"}).status_code == 403


def test_an_explanation_says_which_search_found_what_and_how(qdrant, http, collection):
    fill(qdrant, collection, count=40)
    qdrant.create_payload_index(collection, "n", models.PayloadSchemaType.INTEGER)
    small = {"must": [{"key": "n", "range": {"lte": 30}}]}
    body = {"query": [1, 0, 0, 0], "filter": small, "limit": 3, "with_payload": ["n"]}
    asked = http.post(f"/collections/{collection}/points/query", json=body).json()["result"]["points"]
    answer = http.post(f"/collections/{collection}/points/explain", json=body).json()["result"]
    assert [point["id"] for point in answer["points"]] == [point["id"] for point in asked] == [30, 29, 28]
    assert answer["points"][0]["payload"] == {"n": 30}
    assert [point["found_by"] for point in answer["points"]] == [
        [{"search": 0, "rank": rank, "score": 30.0 - rank}] for rank in range(3)
    ]
    (search,) = answer["searches"]
    (part,) = search["parts"]
    assert (part["segment"], part["points"], part["plan"]) == (None, 40, "scan")
    assert part["filter"][0]["condition"] == "n" and part["filter"][0]["expected"] == 30
    # Recent points have no field index yet: their payloads are read.
    assert part["filter"][0]["answered_by"] == "payload" and part["expected_matches"] == 30

    even = {"must": [{"key": "even", "match": {"value": True}}]}
    fused = {
        "prefetch": [
            {"query": [1, 0, 0, 0], "limit": 4},
            {"query": [-1, 0, 0, 0], "limit": 4, "filter": even},
        ],
        "query": {"fusion": "rrf"},
        "filter": small,
        "limit": 8,
    }
    answer = http.post(f"/collections/{collection}/points/explain", json=fused).json()["result"]
    by_search = {point["id"]: [found["search"] for found in point["found_by"]] for point in answer["points"]}
    assert by_search == {30: [0], 29: [0], 28: [0], 27: [0], 2: [1], 4: [1], 6: [1], 8: [1]}
    conditions = {answered["condition"] for answered in answer["searches"][1]["parts"][0]["filter"]}
    assert {"n", "even"} <= conditions

    refusal = http.post(f"/collections/{collection}/points/explain", json={"query": 7})
    assert refusal.status_code == 400 and "explain takes" in refusal.json()["status"]["error"]
