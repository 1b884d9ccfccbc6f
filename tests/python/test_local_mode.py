"""The same questions to our server and to the client's in-process local mode.

Random points, filters and query trees; ids and scores must agree. The seed is
printed with a failure and can be given as CAIRN_SEED. Local mode is not the
reference everywhere: where it differs from what the server's documents say, the
documents count, and the place says so.
"""

import os
import random

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse
from randoms import DENSE, DIM, MULTI, SPARSE, WORDS, Randoms

POINTS = 160
FILTERS = 3000
QUERIES = 600
TREES = 500
GROUPS = 200
ORDERS = 300
FACETS = 300
WORD_QUERIES = 200
LEAST_COMPARISONS = 5000

compared = 0


class Both:
    """Our server and local mode, holding the same points."""

    def __init__(self, ours, local, name, dice):
        self.ours, self.local, self.name, self.dice = ours, local, name, dice
        self.points = []

    def ask(self, call):
        """What `call` gives for both; local mode raises ValueError where a server refuses."""
        global compared
        compared += 1
        return call(self.ours), call(self.local)


@pytest.fixture(scope="module")
def seed():
    return int(os.environ.get("CAIRN_SEED", random.randrange(1_000_000)))


@pytest.fixture(scope="module")
def both(server, seed):
    print("CAIRN_SEED", seed)
    dice = Randoms(seed)
    name = f"local-mode-{seed}"
    ours, local = QdrantClient(url=server.url, timeout=60), QdrantClient(":memory:")
    both = Both(ours, local, name, dice)
    max_sim = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    dense = {key: models.VectorParams(size=DIM, distance=metric) for key, metric in DENSE.items()}
    multi = {
        key: models.VectorParams(size=DIM, distance=metric, multivector_config=max_sim)
        for key, metric in MULTI.items()
    }
    sparse = {key: models.SparseVectorParams(modifier=modifier) for key, modifier in SPARSE.items()}
    both.points = dice.points(POINTS)
    for client in (ours, local):
        client.create_collection(name, vectors_config={**dense, **multi}, sparse_vectors_config=sparse)
        for start in range(0, POINTS, 80):
            client.upsert(name, both.points[start : start + 80])
    # Local mode needs no indexes; the answers must not depend on them.
    for key, kind in [("n", "integer"), ("f", "float"), ("key", "keyword"), ("keys", "keyword"), ("flag", "bool")]:
        ours.create_payload_index(name, key, field_schema=kind)
    yield both
    ours.delete_collection(name)
    ours.close()


def ids(records):
    return [record.id for record in records]


def test_random_filters_choose_the_same_points(both):
    for _ in range(FILTERS):
        condition = both.dice.filter()
        ours, local = both.ask(lambda c: ids(c.scroll(both.name, scroll_filter=condition, limit=POINTS)[0]))
        # Local mode lists points in the order they were written, not by id.
        assert set(ours) == set(local), condition
        assert len(ours) == len(local)


@pytest.mark.skipif(not hasattr(models, "TextQuery"), reason="texts are ranked from client 1.20 on")
def test_words_rank_a_text_field_the_same(both):
    scored = models.TextIndexParams(type="text", scoring=models.TextScoringParams(type="bm25"))
    for client in (both.ours, both.local):
        client.create_payload_index(both.name, "text", field_schema=scored)
    for _ in range(WORD_QUERIES):
        text = " ".join(both.dice.some(WORDS, 3))
        if both.dice.random() < 0.5:
            params = models.Bm25Params(k=both.dice.choice([0.0, 0.9, 2.0]), b=both.dice.choice([0.0, 0.4, 1.0]))
            text = models.TextQueryInput(query=text, scoring=models.Bm25Scoring(bm25=params))
        asked = {"query": models.TextQuery(text=text), "using": "text", "limit": both.dice.randint(1, 30)}
        if both.dice.random() < 0.3:
            asked["score_threshold"] = both.dice.choice([0.5, 1.0])
        asked["query_filter"] = both.dice.maybe_filter()
        ours, local = both.ask(lambda c: c.query_points(both.name, **asked).points)
        assert_same_hits(ours, local, asked)
    plain = {"query": models.TextQuery(text="stone"), "using": "key"}
    with pytest.raises(UnexpectedResponse, match="scoring"):
        both.ours.query_points(both.name, **plain)


@pytest.mark.skipif(not hasattr(models, "IdfCorpusParams"), reason="from client 1.20 on")
def test_frequencies_are_counted_over_the_same_points(both):
    for _ in range(WORD_QUERIES):
        corpus = models.IdfCorpusParams(corpus=both.dice.filter())
        params = models.SearchParams(exact=True, idf=corpus)
        asked = {"query": both.dice.sparse(), "using": "idf", "limit": both.dice.randint(1, 30), "search_params": params}
        ours, local = both.ask(lambda c: c.query_points(both.name, **asked).points)
        assert_same_hits(ours, local, asked)


def close(a, b):
    return abs(a - b) <= 2e-4 * max(1.0, abs(a), abs(b))


def assert_same_hits(ours, local, asked, everything=False):
    """Equal scores place by place; equal ids except among scores that are tied."""
    assert len(ours) == len(local), asked
    for place, (our, their) in enumerate(zip(ours, local, strict=True)):
        assert close(our.score, their.score), (place, our, their, asked)
    if not ours:
        return
    cuts = [local[-1].score, local[0].score]
    for our in ours:
        tied = any(close(our.score, cut) for cut in cuts) and not everything
        same = any(their.id == our.id and close(our.score, their.score) for their in local)
        assert same or tied, (our, ids(local), asked)


def test_random_queries_find_the_same_points_with_the_same_scores(both):
    kinds = [both.dice.nearest, both.dice.nearest, both.dice.recommend, both.dice.discover, both.dice.context]
    exact = models.SearchParams(exact=True)
    for _ in range(QUERIES):
        query = both.dice.choice(kinds)(both.points)
        page = {"limit": both.dice.randint(1, 30), "offset": both.dice.choice([0, 0, 3])}
        condition = both.dice.maybe_filter()
        asked = {**query, **page, "query_filter": condition}
        ours, local = both.ask(lambda c: c.query_points(both.name, search_params=exact, **asked).points)
        assert_same_hits(ours, local, asked)


def test_random_query_trees_find_the_same_points_with_the_same_scores(both):
    for _ in range(TREES):
        asked = {**both.dice.tree(), "limit": both.dice.randint(1, 30)}
        ours, local = both.ask(lambda c: outcome(c, both.name, asked))
        if isinstance(ours, str) or isinstance(local, str):
            assert isinstance(ours, str) and isinstance(local, str), (str(ours)[:300], str(local)[:300], asked)
            continue
        assert_same_hits(ours, local, asked)


def outcome(client, name, asked):
    """The hits, or that it was refused: a formula may divide by what is not there."""
    try:
        return client.query_points(name, **asked).points
    except (UnexpectedResponse, ValueError) as refusal:
        return f"refused: {refusal}"


def test_groups_have_the_same_hits(both):
    for _ in range(GROUPS):
        query = both.dice.nearest(both.points)
        asked = {
            **query,
            "group_by": both.dice.choice(["key", "n", "keys", "deep.a.b"]),
            "group_size": both.dice.randint(1, 4),
            "limit": 200,
            "query_filter": both.dice.maybe_filter(),
        }
        ours, local = both.ask(lambda c: c.query_points_groups(both.name, **asked).groups)
        ours, local = ({group.id: group.hits for group in groups} for groups in (ours, local))
        assert set(ours) == set(local), asked
        for group, hits in ours.items():
            assert_same_hits(hits, local[group], asked)


def test_orders_are_the_same(both):
    for _ in range(ORDERS):
        key = both.dice.choice(["n", "f"])
        order = models.OrderBy(
            key=key,
            direction=both.dice.choice(list(models.Direction)),
            start_from=both.dice.choice([None, 1, 2.25]),
        )
        asked = {"order_by": order, "limit": both.dice.randint(1, 40), "scroll_filter": both.dice.maybe_filter()}
        ours, local = both.ask(lambda c: c.scroll(both.name, **asked)[0])
        assert [record.payload[key] for record in ours] == [record.payload[key] for record in local], asked


def test_facets_and_counts_are_the_same(both):
    for _ in range(FACETS):
        key = both.dice.choice(["key", "keys", "n", "flag"])
        asked = {"key": key, "facet_filter": both.dice.maybe_filter(), "limit": both.dice.randint(1, 12)}
        ours, local = both.ask(lambda c: c.facet(both.name, **asked).hits)
        assert [hit.count for hit in ours] == [hit.count for hit in local], asked
        condition = both.dice.filter()
        ours, local = both.ask(lambda c: c.count(both.name, count_filter=condition).count)
        assert ours == local, condition


def test_matrices_of_all_points_are_the_same(both):
    for name in [*DENSE, *MULTI]:
        # Local mode cannot sort numbers and UUIDs together.
        numbers = [point.id for point in both.points if isinstance(point.id, int)]
        condition = models.Filter(must=[models.HasIdCondition(has_id=numbers)])
        condition.must.append(models.HasVectorCondition(has_vector=name))
        asked = {"sample": POINTS, "limit": 4, "using": name, "query_filter": condition}
        ours, local = both.ask(lambda c: c.search_matrix_pairs(both.name, **asked).pairs)
        ours, local = (sorted((str(p.a), -p.score) for p in pairs) for pairs in (ours, local))
        assert [a for a, _ in ours] == [a for a, _ in local]
        assert [score for _, score in ours] == pytest.approx([score for _, score in local], abs=1e-4)


def test_writes_leave_the_same_points(both):
    name, dice = both.name, both.dice
    for _ in range(400):
        write = dice.choice([set_payload, overwrite, delete_keys, clear, update_vectors, delete_vectors, upsert])
        write(both, name, dice)
    ours, local = both.ask(lambda c: c.scroll(name, limit=2 * POINTS, with_vectors=True)[0])
    ours, local = ({record.id: record for record in records} for records in (ours, local))
    assert set(ours) == set(local)
    for id, record in ours.items():
        assert (record.payload or {}) == (local[id].payload or {})
        assert set(record.vector) == set(local[id].vector), id


def on_both(both, call):
    for client in (both.ours, both.local):
        call(client)


def chosen(dice):
    return dice.choice([dice.filter(), [dice.id(dice.randint(1, POINTS)) for _ in range(3)]])


def set_payload(both, name, dice):
    payload, points = dice.payload(), chosen(dice)
    # Local mode keeps a null that the server's documents say removes its key.
    payload = {key: value for key, value in payload.items() if value is not None}
    # Without `key`: local mode then changes all points that were once given the same object.
    on_both(both, lambda c: c.set_payload(name, payload=payload, points=points))


def overwrite(both, name, dice):
    payload, points = dice.payload(), chosen(dice)
    on_both(both, lambda c: c.overwrite_payload(name, payload=payload, points=points))


def delete_keys(both, name, dice):
    # Local mode takes no paths here, only keys.
    keys, points = dice.some(["key", "n", "deep", "list", "gone"], 2), chosen(dice)
    on_both(both, lambda c: c.delete_payload(name, keys=keys, points=points))


def clear(both, name, dice):
    points = [dice.id(dice.randint(1, POINTS))]
    on_both(both, lambda c: c.clear_payload(name, points_selector=points))


def update_vectors(both, name, dice):
    vectors = {key: dice.vector(key) for key in dice.some([*DENSE, *MULTI, *SPARSE], 3)}
    points = [models.PointVectors(id=dice.id(dice.randint(1, POINTS)), vector=vectors)]
    on_both(both, lambda c: c.update_vectors(name, points=points))


def delete_vectors(both, name, dice):
    names, points = dice.some([*DENSE, *MULTI, *SPARSE], 2), [dice.id(dice.randint(1, POINTS))]
    on_both(both, lambda c: c.delete_vectors(name, vectors=names, points=points))


def upsert(both, name, dice):
    number = dice.randint(1, POINTS)
    [point] = dice.points(1)
    point.id = dice.id(number)
    on_both(both, lambda c: c.upsert(name, [point]))


def test_enough_was_compared(both):
    print("compared", compared)
    assert compared >= LEAST_COMPARISONS
