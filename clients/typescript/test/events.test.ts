import assert from "node:assert/strict";
import { test } from "node:test";
import { EventParser, type ServerEvent } from "../src/events.js";

const STREAM =
  "\ufeff: a comment\r\n" +
  'event: delta\r\ndata: {"text":"café \u{1f9ed} \u2028 x"}\r\n\r\n' +
  "event: delta\ndata: one\ndata: two\ndata:\n\n" +
  "data:no space\r\r" +
  "event: nothing\n\n" +
  "id: 7\nretry: 10\nevent: done\ndata\n\n" +
  "event: cut\ndata: never ended\n";

const EVENTS: ServerEvent[] = [
  { event: "delta", data: '{"text":"café \u{1f9ed} \u2028 x"}' },
  { event: "delta", data: "one\ntwo\n" },
  { event: "message", data: "no space" },
  { event: "done", data: "" },
];

function parse(bytes: Uint8Array, size: (rest: number) => number): ServerEvent[] {
  const parser = new EventParser();
  const events: ServerEvent[] = [];
  for (let start = 0; start < bytes.length; ) {
    const end = start + size(bytes.length - start);
    events.push(...parser.push(bytes.subarray(start, end)));
    start = end;
  }
  return events;
}

test("one chunk is read by the rules of the standard", () => {
  const bytes = new TextEncoder().encode(STREAM);
  assert.deepEqual(parse(bytes, (rest) => rest), EVENTS);
});

test("chunks of any size and any line end give the same events", () => {
  for (const lineEnd of ["\n", "\r", "\r\n"]) {
    const bytes = new TextEncoder().encode(STREAM.replace(/\r\n|\n|\r/g, lineEnd));
    for (let size = 1; size < 20; size += 1) {
      assert.deepEqual(parse(bytes, () => size), EVENTS, `size ${size}`);
    }
  }
});

test("cuts at random places change nothing", () => {
  const bytes = new TextEncoder().encode(STREAM);
  const seed = Date.now() % 1_000_000;
  let state = seed;
  const random = () => (state = (state * 1_103_515_245 + 12_345) % 2_147_483_648);
  for (let round = 0; round < 200; round += 1) {
    assert.deepEqual(parse(bytes, () => random() % 9), EVENTS, `seed ${seed}, round ${round}`);
  }
});
