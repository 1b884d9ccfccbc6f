"""The event parser gives the same events however the bytes are cut."""

import random

import pytest

from cairn_client.events import EventParser

STREAM = (
    "\ufeff: a comment\r\n"
    'event: delta\r\ndata: {"text":"caf\u00e9 \U0001f9ed \u2028 x"}\r\n\r\n'
    "event: delta\ndata: one\ndata: two\ndata:\n\n"
    "data:no space\r\r"
    "event: nothing\n\n"
    "id: 7\nretry: 10\nevent: done\ndata\n\n"
    "event: cut\ndata: never ended\n"
)

EVENTS = [
    ("delta", '{"text":"caf\u00e9 \U0001f9ed \u2028 x"}'),
    ("delta", "one\ntwo\n"),
    ("message", "no space"),
    ("done", ""),
]


def parse(chunks):
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_one_chunk_is_read_by_the_rules_of_the_standard():
    assert parse([STREAM.encode()]) == EVENTS


def test_single_bytes_give_the_same_events():
    assert parse(bytes([byte]) for byte in STREAM.encode()) == EVENTS


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("seed", range(20))
def test_cuts_at_random_places_and_any_line_end_change_nothing(seed, line_end):
    lines = STREAM.replace("\r\n", "\n").replace("\r", "\n").replace("\n", line_end)
    data, cuts = lines.encode(), random.Random(seed)
    chunks = []
    while data:
        size = cuts.randrange(0, 9)
        chunks.append(data[:size])
        data = data[size:]
    assert parse(chunks) == EVENTS
