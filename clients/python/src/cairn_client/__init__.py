"""Client for the text endpoints of a Cairn server.

    from cairn_client import Cairn

    with Cairn() as cairn:
        cairn.add_documents("docs", [{"id": "a", "text": "A cairn is a heap of stones."}])
        print(cairn.ask("docs", "What is a cairn?").answer)

Points and collections speak the Qdrant protocol: use `qdrant-client` for those.
"""

from .client import AsyncCairn, Cairn
from .errors import CairnError
from .types import (
    Added,
    Answer,
    Citation,
    Cited,
    Delta,
    Document,
    Done,
    Event,
    FileFailure,
    Hit,
    Job,
    Replayed,
    Retrieved,
    Sentence,
)

__all__ = [
    "Added",
    "Answer",
    "AsyncCairn",
    "Cairn",
    "CairnError",
    "Citation",
    "Cited",
    "Delta",
    "Document",
    "Done",
    "Event",
    "FileFailure",
    "Hit",
    "Job",
    "Replayed",
    "Retrieved",
    "Sentence",
]
