"""Random points, filters and queries for both a server and the client's local mode.

Everything comes from one `random.Random`, so a seed gives the same again. Values
are drawn from small sets on purpose: conditions should match some points and miss
others, and ties should happen.

Not drawn is what local mode answers otherwise than the server's documents say, which
the other tests ask about: to Python, True equals 1 and 1.0, so a bool passes a range
and a float equals an integer; `except` matches null and empty arrays; phrases are
unknown.
"""

import random
import struct
import uuid

from qdrant_client import models

DIM = 8
ROWS = 3
EVERYTHING = 10_000
WORDS = ["stone", "river", "Gravel", "granite pile", "slate", "river bed", "moss", ""]
KEYS = ["red", "green", "blue", "Red", "grey"]
PLACES = [(13.4, 52.5), (2.35, 48.85), (-0.12, 51.5), (179.5, -17.0), (-179.5, -16.5), (13.5, 52.4)]
DAYS = [
    "2023-01-01",
    "2023-06-15T12:00:00Z",
    "2023-06-15T14:00:00+02:00",
    "2024-02-29 08:30:00",
    "2024-02-29T08:30:00.250Z",
]

DENSE = {
    "cosine": models.Distance.COSINE,
    "dot": models.Distance.DOT,
    "euclid": models.Distance.EUCLID,
    "manhattan": models.Distance.MANHATTAN,
}
MULTI = {"multi": models.Distance.COSINE, "multi-dot": models.Distance.DOT}
SPARSE = {"sparse": None, "idf": models.Modifier.IDF}


def f32(value):
    """The value as a vector holds it."""
    return struct.unpack("f", struct.pack("f", value))[0]


class Randoms(random.Random):
    """The dice, and what they make."""

    def some(self, values, most):
        return self.sample(values, self.randint(1, min(most, len(values))))

    def dense(self):
        return [f32(self.gauss(0, 1)) for _ in range(DIM)]

    def multi(self):
        return [self.dense() for _ in range(self.randint(1, ROWS))]

    def sparse(self):
        indices = self.sample(range(20), self.randint(1, 6))
        return models.SparseVector(indices=indices, values=[f32(self.uniform(0.1, 2)) for _ in indices])

    def vector(self, name):
        if name in DENSE:
            return self.dense()
        return self.multi() if name in MULTI else self.sparse()

    def id(self, number):
        return number if number % 3 else str(uuid.UUID(int=number * 0x1234567890ABCDEF1234567))

    def points(self, count):
        names = [*DENSE, *MULTI, *SPARSE]
        points = []
        for number in range(1, count + 1):
            # Local mode cannot search multi-vectors that some points lack, and counts points
            # without the vector into its idf.
            chosen = [name for name in names if name in MULTI or name == "idf" or self.random() < 0.9]
            vector = {name: self.vector(name) for name in chosen}
            points.append(models.PointStruct(id=self.id(number), vector=vector, payload=self.payload()))
        return points

    def payload(self):
        lon, lat = self.choice(PLACES)
        everything = {
            "key": self.choice(KEYS),
            "keys": [self.choice(KEYS) for _ in range(self.randint(0, 3))],
            "n": self.randint(-3, 12),
            "f": self.choice([0.5, 1.0, 2.25, -1.5, 7]),
            "flag": self.random() < 0.5,
            "text": self.choice(WORDS),
            "at": self.choice(DAYS),
            "place": {"lon": lon + self.uniform(-0.2, 0.2), "lat": lat + self.uniform(-0.2, 0.2)},
            "list": [self.randint(0, 5) for _ in range(self.randint(0, 4))],
            "deep": {"a": {"b": self.randint(0, 3)}, "c d": self.choice(KEYS)},
            "parts": [
                {"size": self.randint(0, 4), "of": self.choice(KEYS)} for _ in range(self.randint(0, 3))
            ],
            "mixed": self.choice([1, "1", 1.5, True, None, [], [None], [1, "red"]]),
        }
        return {key: value for key, value in everything.items() if self.random() < 0.85}

    # Filters.

    def filter(self, depth=2):
        """A filter with some of its four parts."""
        parts = {}
        for part in self.some(["must", "should", "must_not"], 2):
            parts[part] = [self.condition(depth - 1) for _ in range(self.randint(1, 2))]
        if self.random() < 0.15:
            conditions = [self.condition(depth - 1) for _ in range(self.randint(1, 3))]
            count = self.randint(1, len(conditions))
            parts["min_should"] = models.MinShould(conditions=conditions, min_count=count)
        return models.Filter(**parts)

    def maybe_filter(self):
        return self.filter() if self.random() < 0.5 else None

    def condition(self, depth):
        kinds = [self.field] * 8 + [self.empty, self.null, self.has_id, self.has_vector, self.nested]
        if depth > 0:
            kinds += [self.filter] * 2
        kind = self.choice(kinds)
        return kind(depth) if kind == self.filter else kind()

    def field(self):
        key, condition = self.choice(
            [
                self.match_keyword,
                self.match_integer,
                self.match_flag,
                self.match_text,
                self.number,
                self.datetime,
                self.geo_box,
                self.geo_radius,
                self.geo_polygon,
                self.values_count,
            ]
        )()
        return models.FieldCondition(key=key, **condition)

    def match_keyword(self):
        key = self.choice(["key", "keys", "keys[]", 'deep."c d"', "parts[].of", "mixed", "gone", "keys[0]"])
        return key, {"match": self.match(key, KEYS)}

    def match(self, key, values):
        kinds = [models.MatchValue(value=self.choice(values)), models.MatchAny(any=self.some(values, 3))]
        if key != "mixed":
            kinds.append(models.MatchExcept(**{"except": self.some(values, 3)}))
        return self.choice(kinds)

    def match_integer(self):
        key = self.choice(["n", "list", "list[]", "deep.a.b", "parts[].size", "parts[1].size"])
        return key, {"match": self.match(key, range(-3, 13))}

    def match_flag(self):
        return "flag", {"match": models.MatchValue(value=self.random() < 0.5)}

    def match_text(self):
        # Whole words, which newer local modes look for, and older ones and servers as substrings.
        text = self.choice(["stone", "river", "river bed", "granite", "moss"])
        kinds = [models.MatchText(text=text), models.MatchTextAny(text_any=text)]
        return self.choice(["text", "key"]), {"match": self.choice(kinds)}

    def number(self):
        bounds = {bound: self.choice([-2, 0, 0.5, 1, 2.25, 3, 5]) for bound in self.some(["gt", "gte", "lt", "lte"], 2)}
        key = self.choice(["n", "f", "list", "list[]", "parts[].size", "deep.a.b", "key"])
        return key, {"range": models.Range(**bounds)}

    def datetime(self):
        bounds = {bound: self.choice(DAYS) for bound in self.some(["gt", "gte", "lt", "lte"], 2)}
        return self.choice(["at", "key"]), {"range": models.DatetimeRange(**bounds)}

    def point_on_earth(self):
        lon, lat = self.choice(PLACES)
        return models.GeoPoint(lon=lon, lat=lat)

    def geo_box(self):
        lon, lat = self.choice(PLACES)
        size = self.choice([0.1, 0.5, 3])
        top_left = models.GeoPoint(lon=max(lon - size, -180), lat=lat + size)
        bottom_right = models.GeoPoint(lon=min(lon + size, 180), lat=lat - size)
        return "place", {"geo_bounding_box": models.GeoBoundingBox(top_left=top_left, bottom_right=bottom_right)}

    def geo_radius(self):
        radius = self.choice([5_000.0, 20_000.0, 500_000.0])
        return "place", {"geo_radius": models.GeoRadius(center=self.point_on_earth(), radius=radius)}

    def geo_polygon(self):
        lon, lat = self.choice(PLACES[:3])
        size = self.choice([0.15, 1, 4])
        corners = [(-1, -1), (1, -1), (1, 1), (-0.5, 0.5), (-1, -1)]
        ring = [models.GeoPoint(lon=lon + x * size, lat=lat + y * size) for x, y in corners]
        return "place", {"geo_polygon": models.GeoPolygon(exterior=models.GeoLineString(points=ring))}

    def values_count(self):
        # Newer local modes count 0 values of a missing key, a server none, so 0 is left out.
        bounds = {bound: self.randint(0, 3) for bound in self.some(["lt", "lte"], 1)}
        bounds |= self.choice([{"gt": self.randint(0, 2)}, {"gte": self.randint(1, 3)}])
        key = self.choice(["keys", "list", "parts", "key"])
        return key, {"values_count": models.ValuesCount(**bounds)}

    def empty(self):
        key = self.choice(["keys", "list", "mixed", "n", "gone", "parts"])
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))

    def null(self):
        # Local mode differs between versions on `[null]`, which is not null.
        key = self.choice(["n", "gone", "keys"])
        return models.IsNullCondition(is_null=models.PayloadField(key=key))

    def has_id(self):
        return models.HasIdCondition(has_id=[self.id(self.randint(1, 200)) for _ in range(40)])

    def has_vector(self):
        return models.HasVectorCondition(has_vector=self.choice([*DENSE, *MULTI, *SPARSE]))

    def nested(self):
        size = models.FieldCondition(key="size", range=models.Range(gte=self.randint(0, 4)))
        of = models.FieldCondition(key="of", match=models.MatchValue(value=self.choice(KEYS)))
        parts = {self.choice(["must", "must_not"]): [size], self.choice(["should", "must"]): [of]}
        nested = models.Nested(key=self.choice(["parts", "parts[]"]), filter=models.Filter(**parts))
        return models.NestedCondition(nested=nested)

    # Queries.

    def name(self):
        return self.choice([*DENSE, *DENSE, *MULTI, *SPARSE])

    def target(self, name, known):
        """A vector, or a point that has one."""
        having = [point.id for point in known if name in point.vector]
        return self.choice(having) if having and self.random() < 0.3 else self.vector(name)

    def nearest(self, known):
        name = self.name()
        return {"query": self.target(name, known), "using": name}

    def recommend(self, known, names=(*DENSE, *SPARSE)):
        name = self.choice(names)
        strategy = self.choice(list(models.RecommendStrategy))
        positive = [self.target(name, known) for _ in range(self.randint(1, 3))]
        negative = [self.target(name, known) for _ in range(self.randint(0, 2))]
        if name in SPARSE:
            negative = []
        recommend = models.RecommendInput(positive=positive, negative=negative, strategy=strategy)
        return {"query": models.RecommendQuery(recommend=recommend), "using": name}

    def pairs(self, name, known, least):
        targets = [(self.target(name, known), self.target(name, known)) for _ in range(self.randint(least, 3))]
        return [models.ContextPair(positive=positive, negative=negative) for positive, negative in targets]

    def discover(self, known):
        name = self.choice([*DENSE])
        context = self.pairs(name, known, 1)
        discover = models.DiscoverInput(target=self.target(name, known), context=context)
        return {"query": models.DiscoverQuery(discover=discover), "using": name}

    def context(self, known):
        name = self.choice([*DENSE])
        return {"query": models.ContextQuery(context=self.pairs(name, known, 1)), "using": name}

    def order_by(self, known):
        order = models.OrderBy(key=self.choice(["n", "f"]), direction=self.choice(list(models.Direction)))
        return {"query": models.OrderByQuery(order_by=order)}

    def prefetch(self, depth, fused):
        if depth <= 0 or self.random() < 0.7:
            leaf = self.similar(lambda: self.leaf([])) if fused else self.leaf([])
            return models.Prefetch(filter=self.maybe_filter(), limit=self.randint(5, 40), **leaf)
        # No filter: local mode applies it after the leaves' limits, a server within the leaves.
        prefetch = [self.prefetch(depth - 1, True) for _ in range(self.randint(1, 3))]
        merged = self.similar(self.rescored)
        # Fused scores are often equal, and where ranks count each side orders equals its own way.
        if not fused and self.random() < 0.5:
            merged = {"query": models.FusionQuery(fusion="dbsf")}
        return models.Prefetch(prefetch=prefetch, limit=EVERYTHING, **merged)

    def similar(self, make):
        """One with similarities: local mode takes the distances of a fused list for those."""
        made = make()
        while made["using"] in ("euclid", "manhattan"):
            made = make()
        return made

    def leaf(self, known):
        # Of sparse points many are equally like the examples, and a limit cuts between them.
        recommend = lambda known: self.recommend(known, [*DENSE])  # noqa: E731
        return self.choice([self.nearest, self.nearest, recommend, self.discover])(known)

    def tree(self):
        """A query over prefetches: fused, scored again, or computed."""
        # Local mode does not look up points that prefetches name, so they name none.
        count, fuses = self.randint(1, 3), self.random() < 0.5
        prefetch = [self.prefetch(1, fuses) for _ in range(count)]
        merged = self.fused(count) if fuses else self.choice([self.rescored(), self.computed(count)])
        return {"prefetch": prefetch, **merged}

    def fused(self, count):
        kinds = [models.FusionQuery(fusion=fusion) for fusion in models.Fusion]
        rrf = models.Rrf(k=self.choice([1, 2, 10, 60]))
        kinds.append(models.RrfQuery(rrf=rrf))
        if "weights" in models.Rrf.model_fields:
            weights = [self.choice([0.5, 1.0, 2.0, 3.5]) for _ in range(count)]
            kinds.append(models.RrfQuery(rrf=models.Rrf(weights=weights)))
        return {"query": self.choice(kinds)}

    def rescored(self):
        return self.nearest([])

    def computed(self, count):
        return {"query": models.FormulaQuery(formula=self.expression(2, count), defaults={"n": 1.5, "f": 2})}

    def expression(self, depth, count):
        leaves = [
            lambda: "$score",
            lambda: f"$score[{self.randrange(count)}]",
            lambda: "n",
            lambda: "f",
            lambda: self.choice([0.5, 2.0, -1.25]),
            lambda: models.FieldCondition(key="flag", match=models.MatchValue(value=True)),
        ]
        if depth == 0:
            return self.choice(leaves)()
        inner = lambda: self.expression(depth - 1, count)  # noqa: E731
        nodes = [
            lambda: models.SumExpression(sum=[inner(), inner()]),
            lambda: models.MultExpression(mult=[inner(), inner()]),
            lambda: models.NegExpression(neg=inner()),
            lambda: models.AbsExpression(abs=inner()),
            lambda: models.SqrtExpression(sqrt=models.AbsExpression(abs=inner())),
            lambda: models.ExpExpression(exp=models.NegExpression(neg=models.AbsExpression(abs=inner()))),
            lambda: models.DivExpression(
                div=models.DivParams(left=inner(), right=inner(), by_zero_default=0.25)
            ),
            lambda: self.decay(inner()),
        ]
        return self.choice(nodes + leaves[:1])()

    def decay(self, x):
        params = models.DecayParamsExpression(
            x=x, target=self.choice([0, 1.5]), scale=self.choice([1, 3.0]), midpoint=self.choice([0.3, 0.5])
        )
        kinds = [
            lambda: models.LinDecayExpression(lin_decay=params),
            lambda: models.ExpDecayExpression(exp_decay=params),
            lambda: models.GaussDecayExpression(gauss_decay=params),
        ]
        return self.choice(kinds)()
