"""The official qdrant-client, unmodified, against our server."""

import math
import random
import struct
import time
import warnings

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

DISTANCES = list(models.Distance)
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def vectors(size, distance=models.Distance.DOT):
    return models.VectorParams(size=size, distance=distance)


def f32(value):
    """The value as a vector holds it."""
    return struct.unpack("f", struct.pack("f", value))[0]


def score(distance, a, b):
    """The score users of the metric expect, in the plainest way."""
    dot = sum(x * y for x, y in zip(a, b))
    if distance == models.Distance.DOT:
        return dot
    if distance == models.Distance.COSINE:
        lengths = math.hypot(*a) * math.hypot(*b)
        return dot / lengths if lengths else 0.0
    if distance == models.Distance.EUCLID:
        return math.dist(a, b)
    return sum(abs(x - y) for x, y in zip(a, b))


def larger_is_better(distance):
    return distance in (models.Distance.DOT, models.Distance.COSINE)


def field(key, **condition):
    if "range" in condition:
        return models.FieldCondition(key=key, range=condition["range"])
    return models.FieldCondition(key=key, match=condition["match"])


def value(key, value):
    return field(key, match=models.MatchValue(value=value))


def filled(qdrant, collection, points, size=4, distance=models.Distance.DOT):
    qdrant.create_collection(collection, vectors_config=vectors(size, distance))
    qdrant.upsert(collection, points)


def cities():
    """Twenty points whose payload has every kind of value a filter looks at."""
    names = ["Berlin", "London", "Moscow", "Paris"]
    points = []
    for id in range(1, 21):
        payload = {
            "city": names[id % 4],
            "n": id,
            "price": id / 2,
            "open": id % 3 == 0,
            "tags": [f"t{id % 2}", f"u{id % 5}"],
            "at": {"floor": id % 7},
        }
        if id % 6 == 0:
            del payload["price"]
        points.append(models.PointStruct(id=id, vector=[id, 1, 0, 0], payload=payload))
    return points


def test_the_client_finds_a_version_it_knows(server):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client = QdrantClient(url=server.url)
        # The client asks in a thread, which warns into the same list.
        time.sleep(0.3)
    assert client.info().version
    client.close()


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_collection_is_created_described_listed_and_deleted(qdrant, collection, distance):
    assert qdrant.collection_exists(collection) is False
    assert qdrant.create_collection(collection, vectors_config=vectors(4, distance)) is True
    assert qdrant.collection_exists(collection) is True
    assert collection in [each.name for each in qdrant.get_collections().collections]

    info = qdrant.get_collection(collection)
    assert (info.config.params.vectors.size, info.config.params.vectors.distance) == (4, distance)
    assert (info.points_count, info.status) == (0, models.CollectionStatus.GREEN)

    assert qdrant.delete_collection(collection) is True
    assert qdrant.delete_collection(collection) is False
    assert qdrant.collection_exists(collection) is False
    with pytest.raises(UnexpectedResponse) as error:
        qdrant.get_collection(collection)
    assert error.value.status_code == 404
    assert f"Not found: Collection `{collection}` doesn't exist!".encode() in error.value.content


def test_creating_a_collection_twice_is_a_conflict(qdrant, collection):
    qdrant.create_collection(collection, vectors_config=vectors(4))
    with pytest.raises(UnexpectedResponse) as error:
        qdrant.create_collection(collection, vectors_config=vectors(8))
    assert error.value.status_code == 409
    assert f"Wrong input: Collection `{collection}` already exists!".encode() in error.value.content
    assert qdrant.get_collection(collection).config.params.vectors.size == 4


def test_points_come_back_as_they_went_in_and_in_the_order_asked_for(qdrant, collection):
    qdrant.create_collection(collection, vectors_config=vectors(4))
    payload = {"z": 1, "a": [1.5, None, {"ключ": "🧭"}], "big": 2**60, "neg": -7, "t": True}
    done = qdrant.upsert(
        collection,
        [models.PointStruct(id=1, vector=[0.05, 0.61, 0.76, 0.74], payload=payload)],
    )
    assert done.status == models.UpdateStatus.COMPLETED
    qdrant.upsert(
        collection,
        models.Batch(ids=[3, 2], vectors=[[1, 2, 3, 4], [4, 3, 2, 1]], payloads=[{"n": 3}, {"n": 2}]),
    )
    records = qdrant.retrieve(collection, [3, 1, 99, 2], with_vectors=True)
    assert [record.id for record in records] == [3, 1, 2]
    assert records[1].payload == payload
    assert list(records[1].payload) == list(payload), "the order of the keys is kept"
    assert [record.vector for record in records] == [
        [1, 2, 3, 4],
        [0.05, 0.61, 0.76, 0.74],
        [4, 3, 2, 1],
    ]
    [bare] = qdrant.retrieve(collection, [1], with_payload=False)
    assert (bare.payload, bare.vector) == (None, None)
    assert qdrant.get_collection(collection).points_count == 3


def test_an_upsert_replaces_the_whole_point(qdrant, collection):
    filled(qdrant, collection, [models.PointStruct(id=1, vector=[1, 0, 0, 0], payload={"a": 1})])
    qdrant.upsert(collection, [models.PointStruct(id=1, vector=[0, 1, 0, 0])])
    [record] = qdrant.retrieve(collection, [1], with_vectors=True)
    assert record.vector == [0, 1, 0, 0]
    assert not record.payload
    assert qdrant.count(collection).count == 1
    [hit] = qdrant.query_points(collection, query=[0, 1, 0, 0]).points
    assert hit.score == 1


def test_a_write_that_does_not_wait_is_seen_by_the_next_read(qdrant, collection):
    qdrant.create_collection(collection, vectors_config=vectors(4))
    for id in range(50):
        point = models.PointStruct(id=id, vector=[id, 1, 0, 0])
        qdrant.upsert(collection, [point], wait=False)
        assert [record.id for record in qdrant.retrieve(collection, [id])] == [id]


@pytest.mark.parametrize("distance", DISTANCES)
def test_scores_are_those_of_the_plain_formula_best_first(qdrant, collection, distance):
    random_values = random.Random(7)
    rows = [[f32(random_values.gauss(0, 1)) for _ in range(8)] for _ in range(60)]
    points = [models.PointStruct(id=id, vector=row) for id, row in enumerate(rows)]
    filled(qdrant, collection, points, 8, distance)
    query = rows[0][::-1]
    want = sorted(
        ((score(distance, query, row), id) for id, row in enumerate(rows)),
        reverse=larger_is_better(distance),
    )[:10]
    hits = qdrant.query_points(collection, query=query, limit=10).points
    assert [hit.id for hit in hits] == [id for _, id in want]
    assert [hit.score for hit in hits] == pytest.approx([score for score, _ in want], abs=1e-5)


def test_a_score_is_printed_in_its_shortest_form(qdrant, collection):
    point = models.PointStruct(id=1, vector=[0, 0, 0, 0])
    filled(qdrant, collection, [point], distance=models.Distance.EUCLID)
    [hit] = qdrant.query_points(collection, query=[1, 3, 3, 0]).points
    assert hit.score == 4.358899


def test_cosine_vectors_are_normalised_on_the_way_in(qdrant, collection):
    points = [
        models.PointStruct(id=1, vector=[3, 4, 0, 0]),
        models.PointStruct(id=2, vector=[0, 0, 0, 0]),
    ]
    filled(qdrant, collection, points, distance=models.Distance.COSINE)
    unit, zero = qdrant.retrieve(collection, [1, 2], with_vectors=True)
    assert unit.vector == pytest.approx([0.6, 0.8, 0, 0], abs=1e-6)
    assert zero.vector == [0, 0, 0, 0]


FILTERS = {
    "must": (
        models.Filter(must=[value("city", "London")]),
        lambda p: p["city"] == "London",
    ),
    "two musts": (
        models.Filter(must=[value("city", "London"), value("open", True)]),
        lambda p: p["city"] == "London" and p["open"],
    ),
    "should": (
        models.Filter(should=[value("city", "Paris"), value("n", 3)]),
        lambda p: p["city"] == "Paris" or p["n"] == 3,
    ),
    "must not": (
        models.Filter(must_not=[value("city", "Paris"), value("open", True)]),
        lambda p: p["city"] != "Paris" and not p["open"],
    ),
    "all three": (
        models.Filter(
            must=[field("n", range=models.Range(gte=5))],
            should=[value("city", "Berlin"), value("city", "Moscow")],
            must_not=[value("open", True)],
        ),
        lambda p: p["n"] >= 5 and p["city"] in ("Berlin", "Moscow") and not p["open"],
    ),
    "a filter in a filter": (
        models.Filter(must=[models.Filter(should=[value("n", 1), value("n", 2)])]),
        lambda p: p["n"] in (1, 2),
    ),
    "any string": (
        models.Filter(must=[field("city", match=models.MatchAny(any=["Paris", "Moscow"]))]),
        lambda p: p["city"] in ("Paris", "Moscow"),
    ),
    "any integer": (
        models.Filter(must=[field("n", match=models.MatchAny(any=[1, 5, 77]))]),
        lambda p: p["n"] in (1, 5),
    ),
    "any of nothing": (
        models.Filter(must=[field("n", match=models.MatchAny(any=[]))]),
        lambda p: False,
    ),
    "except": (
        models.Filter(must=[field("city", match=models.MatchExcept(**{"except": ["Paris"]}))]),
        lambda p: p["city"] != "Paris",
    ),
    "an element of an array": (
        models.Filter(must=[value("tags", "u3")]),
        lambda p: "u3" in p["tags"],
    ),
    "a nested key": (
        models.Filter(must=[value("at.floor", 4)]),
        lambda p: p["at"]["floor"] == 4,
    ),
    "a range with both ends": (
        models.Filter(must=[field("price", range=models.Range(gt=2, lte=7.5))]),
        lambda p: "price" in p and 2 < p["price"] <= 7.5,
    ),
    "a range with one end": (
        models.Filter(must=[field("n", range=models.Range(lt=4))]),
        lambda p: p["n"] < 4,
    ),
    "a string is no number": (
        models.Filter(must=[value("n", "3")]),
        lambda p: False,
    ),
    "a key nobody has": (
        models.Filter(must=[value("nope", 1)]),
        lambda p: False,
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_selects_the_same_points_everywhere(qdrant, collection, name):
    condition, wanted = FILTERS[name]
    points = cities()
    filled(qdrant, collection, points)
    want = [point.id for point in points if wanted(point.payload)]

    found, _ = qdrant.scroll(collection, scroll_filter=condition, limit=100)
    assert [record.id for record in found] == want
    assert qdrant.count(collection, count_filter=condition).count == len(want)
    hits = qdrant.query_points(collection, query=[1, 0, 0, 0], query_filter=condition, limit=100)
    assert [hit.id for hit in hits.points] == want[::-1], "the largest dot product comes first"

    qdrant.delete(collection, points_selector=models.FilterSelector(filter=condition))
    left, _ = qdrant.scroll(collection, limit=100)
    assert [record.id for record in left] == [p.id for p in points if p.id not in want]


def test_a_score_threshold_cuts_on_the_right_side(qdrant, collection):
    filled(qdrant, collection, cities())
    hits = qdrant.query_points(collection, query=[1, 0, 0, 0], score_threshold=17, limit=100)
    assert [hit.id for hit in hits.points] == [20, 19, 18]
    qdrant.delete_collection(collection)
    filled(qdrant, collection, cities(), distance=models.Distance.EUCLID)
    hits = qdrant.query_points(collection, query=[0, 1, 0, 0], score_threshold=4, limit=100)
    assert [hit.id for hit in hits.points] == [1, 2, 3]


def test_limit_and_offset_are_slices_of_one_list(qdrant, collection):
    filled(qdrant, collection, cities())

    def ask(**page):
        return [h.id for h in qdrant.query_points(collection, query=[1, 0, 0, 0], **page).points]

    everything = ask(limit=100)
    assert everything == list(range(20, 0, -1))
    assert ask() == everything[:10]
    assert ask(limit=3) == everything[:3]
    assert ask(limit=4, offset=5) == everything[5:9]
    assert ask(limit=4, offset=18) == everything[18:]
    assert ask(limit=4, offset=40) == []


def test_a_hit_carries_the_parts_that_were_asked_for(qdrant, collection):
    filled(qdrant, collection, cities())

    def ask(**parts):
        return qdrant.query_points(collection, query=[1, 0, 0, 0], limit=1, **parts).points[0]

    assert ask().payload["city"] == "Berlin"
    assert ask().vector is None
    assert ask(with_payload=False).payload is None
    assert ask(with_payload=["n", "at.floor"]).payload == {"n": 20, "at": {"floor": 6}}
    exclude = models.PayloadSelectorExclude(exclude=["tags", "at", "city", "open"])
    assert ask(with_payload=exclude).payload == {"n": 20, "price": 10.0}
    assert ask(with_vectors=True).vector == [20, 1, 0, 0]


def test_scrolling_meets_every_point_once_and_ends(qdrant, collection):
    points = [
        models.PointStruct(id=id, vector=[id, 0, 0, 0], payload={"even": id % 2 == 0})
        for id in random.Random(3).sample(range(1000), 157)
    ]
    filled(qdrant, collection, points)
    for condition in (None, models.Filter(must=[value("even", True)])):
        want = sorted(p.id for p in points if condition is None or p.payload["even"])
        seen, offset = [], None
        while True:
            page, offset = qdrant.scroll(collection, scroll_filter=condition, limit=10, offset=offset)
            assert len(page) <= 10
            seen += [record.id for record in page]
            if offset is None:
                break
        assert seen == want
        assert qdrant.count(collection, count_filter=condition).count == len(want)


def test_points_are_deleted_by_id_and_unknown_ids_are_ignored(qdrant, collection):
    filled(qdrant, collection, cities())
    qdrant.delete(collection, points_selector=[1, 3, 999])
    qdrant.delete(collection, points_selector=models.PointIdsList(points=[5]))
    assert qdrant.count(collection).count == 17
    assert qdrant.retrieve(collection, [1, 3, 5]) == []
    hits = qdrant.query_points(collection, query=[-1, 0, 0, 0], limit=3).points
    assert [hit.id for hit in hits] == [2, 4, 6]


def test_a_point_may_have_several_named_vectors(qdrant, collection):
    config = {"text": vectors(4, models.Distance.COSINE), "image": vectors(3, models.Distance.EUCLID)}
    qdrant.create_collection(collection, vectors_config=config)
    described = qdrant.get_collection(collection).config.params.vectors
    assert {name: (v.size, v.distance) for name, v in described.items()} == {
        "text": (4, models.Distance.COSINE),
        "image": (3, models.Distance.EUCLID),
    }
    qdrant.upsert(
        collection,
        [
            models.PointStruct(id=1, vector={"text": [1, 0, 0, 0], "image": [0, 0, 0]}),
            models.PointStruct(id=2, vector={"text": [0, 1, 0, 0], "image": [3, 4, 0]}),
            models.PointStruct(id=3, vector={"image": [0, 1, 0]}),
        ],
    )
    near = qdrant.query_points(collection, query=[0, 0, 0], using="image").points
    assert [(hit.id, hit.score) for hit in near] == [(1, 0), (3, 1), (2, 5)]
    texts = qdrant.query_points(collection, query=[0, 1, 0, 0], using="text").points
    assert [hit.id for hit in texts] == [2, 1], "a point without the vector is not found by it"
    [record] = qdrant.retrieve(collection, [2], with_vectors=["image"])
    assert record.vector == {"image": [3, 4, 0]}
    with pytest.raises(UnexpectedResponse) as error:
        qdrant.query_points(collection, query=[0, 0, 0], using="sound")
    assert error.value.status_code == 400
    assert b"Wrong input: Not existing vector name error: sound" in error.value.content


def test_uuids_are_ids_in_any_spelling(qdrant, collection):
    uuid = "550e8400-e29b-41d4-a716-446655440000"
    qdrant.create_collection(collection, vectors_config=vectors(4))
    for spelling in (uuid, uuid.upper(), uuid.replace("-", ""), f"urn:uuid:{uuid}"):
        point = models.PointStruct(id=spelling, vector=[1, 0, 0, 0], payload={"as": spelling})
        qdrant.upsert(collection, [point])
    qdrant.upsert(collection, [models.PointStruct(id=2**64 - 1, vector=[0, 1, 0, 0])])
    found, _ = qdrant.scroll(collection)
    assert [record.id for record in found] == [2**64 - 1, uuid], "numbers come before uuids"
    assert found[1].payload == {"as": f"urn:uuid:{uuid}"}
    qdrant.delete(collection, points_selector=[uuid])
    assert qdrant.count(collection).count == 1


@pytest.mark.parametrize("distance", DISTANCES)
def test_random_data_gives_the_hits_and_scores_of_local_mode(qdrant, collection, distance):
    seed = random.randrange(1_000_000)
    print("seed", seed)
    randoms = random.Random(seed)

    def row():
        return [f32(randoms.gauss(0, 1)) for _ in range(24)]

    points = [
        models.PointStruct(
            id=id,
            vector=row(),
            payload={"colour": randoms.choice(["red", "green", "blue"]), "n": randoms.randrange(100)},
        )
        for id in range(800)
    ]
    local = QdrantClient(":memory:")
    clients = [qdrant, local]
    gone = [point.id for point in randoms.sample(points, 50)]
    changed = [
        models.PointStruct(id=point.id, vector=row(), payload={"colour": "red", "n": 1})
        for point in randoms.sample(points, 50)
    ]
    for client in clients:
        client.create_collection(collection, vectors_config=vectors(24, distance))
        for start in range(0, 800, 200):
            client.upsert(collection, points[start : start + 200])
        client.delete(collection, points_selector=gone)
        client.upsert(collection, changed)
    filters = [
        None,
        models.Filter(must=[value("colour", "red")]),
        models.Filter(must=[field("n", range=models.Range(lt=5))], must_not=[value("colour", "red")]),
    ]
    found = wanted = 0
    for condition in filters:
        ours, theirs = (c.count(collection, count_filter=condition).count for c in clients)
        assert ours == theirs
        for _ in range(10):
            ask = {"query": row(), "query_filter": condition, "limit": 10}
            exact = models.SearchParams(exact=True)
            ours, theirs = (
                client.query_points(collection, search_params=exact, **ask).points for client in clients
            )
            assert_same_hits(ours, theirs)
            quick = qdrant.query_points(collection, **ask).points
            found += len({hit.id for hit in quick} & {hit.id for hit in theirs})
            wanted += len(theirs)
    print("recall@10 without `exact`:", found / wanted)
    assert found / wanted >= 0.95
    local.close()


def assert_same_hits(ours, theirs):
    assert len(ours) == len(theirs)
    scores = [hit.score for hit in theirs]
    assert [hit.score for hit in ours] == pytest.approx(scores, abs=1e-5, rel=1e-5)
    for place, (our, their) in enumerate(zip(ours, theirs)):
        around = [scores[near] for near in (place - 1, place + 1) if 0 <= near < len(scores)]
        last = place == len(scores) - 1
        # Rounding may swap two hits whose scores are this close, also across the limit.
        tie = last or any(abs(score - their.score) < 1e-5 for score in around)
        assert our.id == their.id or tie


def test_a_text_goes_wherever_a_vector_does(qdrant, collection, model):
    texts = {
        1: "A lighthouse warns ships of rocks.",
        2: "The compass needle points to magnetic north.",
        3: "Bread is baked from flour, water and yeast.",
    }
    qdrant.create_collection(collection, vectors_config=vectors(384, models.Distance.COSINE))
    qdrant.upsert(
        collection,
        [
            models.PointStruct(id=id, vector=models.Document(text=text, model=MINILM), payload={"text": text})
            for id, text in texts.items()
        ],
    )
    for question, id in [("how do sailors avoid the coast?", 1), ("making a loaf", 3)]:
        hits = qdrant.query_points(collection, query=models.Document(text=question, model=MINILM)).points
        assert (hits[0].id, len(hits)) == (id, 3)
    [record] = qdrant.retrieve(collection, [2], with_vectors=True)
    assert math.hypot(*record.vector) == pytest.approx(1, abs=1e-4)
    same = qdrant.query_points(collection, query=models.Document(text=texts[2], model=model)).points[0]
    assert (same.id, same.score) == (2, pytest.approx(1, abs=1e-4))
