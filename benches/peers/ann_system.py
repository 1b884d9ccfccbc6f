"""What every library that `ann` measures has: settings, and ways to be asked.

A ladder is a list of efforts, cheapest first, that is climbed until recall no longer
grows. `metric` is cosine (rows of unit length), dot or euclid.
"""

from importlib import import_module
from importlib.metadata import version

import numpy as np


BEAMS = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 900, 1280, 1800]

# A binding that keeps the interpreter's lock while it searches has no second thread.
ALONE = [["one", 1]]


class System:
    """What the others share: everything but building and searching."""

    package = ""
    # What to import, before memory is measured.
    module = ""
    note = ""
    ladders = [BEAMS]
    ways = [["one", 1], ["batch", 1], ["one", 2], ["batch", 2]]

    def __init__(self, base, task, folder):
        self.base, self.folder = base, folder
        self.dim = base.shape[1]
        self.k, self.threads = task["k"], task["threads"]
        self.metric = task["metric"]
        self.by_product = self.metric != "euclid"
        self.width = self.k
        self.library = import_module(self.module)

    def version(self):
        return f"{self.package} {version(self.package)}"

    def set_effort(self, effort):
        self.width = max(effort, self.k)

    def begin_thread(self):
        """Called in each thread that will make single calls."""

    def begin_batch(self, threads):
        """Called before batch calls."""

    def question(self, query):
        """One query in the form that `one` takes."""
        return query

    def questions(self, queries):
        """All queries in the form that `batch` takes."""
        return queries

    def ids(self, answer):
        """The ids in what `one` gave."""
        return answer


class Bytes:
    """Values as int8, scaled so that all but the farthest 0.05 % fit in.

    Libraries that take int8 expect their callers to do this. An inner product
    keeps its order when queries have a scale of their own, a distance does not.
    """

    def __init__(self, base, by_product):
        self.by_product = by_product
        self.scale = 127 / np.quantile(np.abs(base[:20_000]), 0.9995)

    def rows(self, values):
        return self.at(values, self.scale)

    def queries(self, values):
        if not self.by_product:
            return self.at(values, self.scale)
        return self.at(values, 127 / np.abs(values).max(axis=-1, keepdims=True))

    def at(self, values, scale):
        return np.clip(np.rint(values * scale), -127, 127).astype(np.int8)
