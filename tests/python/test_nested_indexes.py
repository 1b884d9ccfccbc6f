"""Fields in arrays of objects of which each counts for itself: the option `nested` of a payload index."""

import pytest

SHOPS = [
    {"name": "both apart", "offers": [{"title": "red chair", "price": 10}, {"title": "blue table", "price": 30}]},
    {"name": "both together", "offers": [{"title": "red table and red lamp", "price": 20}]},
    {"name": "one lacks a title", "offers": [{"price": 30, "title": None}, {"title": "red red", "price": 5}]},
    {"name": "no offers", "offers": []},
    {"name": "none at all"},
    {"name": "not only objects", "offers": [7, {"title": ["table", "red"], "price": 30}]},
]


def result(response):
    assert response.status_code == 200, response.text
    return response.json()["result"]


@pytest.fixture(params=[False, True], ids=["in memory", "sealed"])
def shops(http, collection, request):
    """The shops, in memory or, after many others, in segments; the address of their collection."""
    path = f"/collections/{collection}"
    result(http.put(path, json={"vectors": {}}))
    for field, schema in [
        ("offers[].title", {"type": "text", "scoring": True, "nested": "offers"}),
        ("offers[].price", {"type": "integer", "nested": "offers[]"}),
    ]:
        result(http.put(f"{path}/index?wait=true", json={"field_name": field, "field_schema": schema}))
    points = [{"id": number, "vector": {}, "payload": payload} for number, payload in enumerate(SHOPS)]
    if request.param:
        others = [{"id": 100 + number, "vector": {}, "payload": {"offers": [{"title": "x", "price": 0}]}} for number in range(1500)]
        points += others
    for start in range(0, len(points), 400):
        result(http.put(f"{path}/points?wait=true", json={"points": points[start : start + 400]}))
    return path


def found(http, path, **condition):
    body = {"limit": 10, "filter": {"must": [condition, {"must_not": [{"key": "offers[].title", "match": {"text": "x"}}]}]}}
    return [record["payload"]["name"] for record in result(http.post(f"{path}/points/scroll", json=body))["points"]]


def test_a_condition_holds_when_it_holds_for_one_object(http, shops):
    red_table = {"key": "offers[].title", "match": {"text": "red table"}}
    assert found(http, shops, **red_table) == ["both together", "not only objects"]
    either = {"key": "offers[].title", "match": {"text_any": "blue lamp"}}
    assert found(http, shops, **either) == ["both apart", "both together"]
    assert found(http, shops, is_empty={"key": "offers[].title"}) == ["one lacks a title"]
    assert found(http, shops, is_empty={"key": "offers[].price"}) == []
    dear = {"key": "offers[].price", "range": {"gte": 30}}
    assert found(http, shops, **dear) == ["both apart", "one lacks a title", "not only objects"]
    red_and_dear = [{"key": "title", "match": {"text": "red"}}, {"key": "price", "range": {"gte": 20}}]
    nested = {"nested": {"key": "offers", "filter": {"must": red_and_dear}}}
    assert found(http, shops, **nested) == ["both together", "not only objects"]
    not_red = {"must": [{"key": "price", "match": {"value": 30}}], "must_not": [red_and_dear[0]]}
    assert found(http, shops, nested={"key": "offers", "filter": not_red}) == ["both apart", "one lacks a title"]


def test_ranking_by_words_takes_the_best_object(http, shops):
    body = {"query": {"text": "red"}, "using": "offers[].title", "limit": 10, "with_payload": True}
    hits = result(http.post(f"{shops}/points/query", json=body))["points"]
    assert hits[0]["payload"]["name"] == "one lacks a title", "its one title is nothing but red"
    assert {hit["id"] for hit in hits} == {0, 1, 2, 5}


def test_a_value_is_counted_once_a_point(http, shops):
    result(http.put(f"{shops}/points?wait=true", json={"points": [{"id": 50, "vector": {}, "payload": {"offers": [{"price": 77}, {"price": 77}]}}]}))
    hits = result(http.post(f"{shops}/facet", json={"key": "offers[].price", "limit": 100}))["hits"]
    counts = {hit["value"]: hit["count"] for hit in hits}
    assert (counts[30], counts[77]) == (3, 1)
    ordered = result(http.post(f"{shops}/points/scroll", json={"order_by": {"key": "offers[].price", "direction": "desc"}, "limit": 2}))
    assert [record["id"] for record in ordered["points"]] == [50, 5]


def test_the_field_must_be_in_the_array_and_the_option_comes_back(http, shops):
    schema = result(http.get(shops))["payload_schema"]
    assert schema["offers[].price"]["params"]["nested"] == "offers[]"
    for field, nested in [("price", "offers"), ("offers.price", "offers"), ("offers[]", "offers"), ("a[].b", "a..")]:
        body = {"field_name": field, "field_schema": {"type": "keyword", "nested": nested}}
        assert http.put(f"{shops}/index", json=body).status_code == 400
