// Against a real server: CAIRN_URL=http://127.0.0.1:6333 npm test
import assert from "node:assert/strict";
import { test } from "node:test";
import { Cairn, CairnError, type AskEvent, type Citation } from "../src/index.js";

const url = process.env["CAIRN_URL"];
const apiKey = process.env["CAIRN_API_KEY"];
const skip = url === undefined ? "CAIRN_URL is not set" : false;
const collection = `typescript-${process.pid}`;

const SOURCES: Record<string, string> = {
  stones:
    "# Waymarks \u{1f9ed}\n\nA cairn is a heap of stones. Hikers build cairns to mark a path " +
    "above the tree line.\n\n## Naïve mistakes\n\nNever take stones from an old cairn.",
  lamps: "# Lighthouses\n\nA Fresnel lens gathers the light of a lamp into a strong beam.",
};

function client(): Cairn {
  const key = apiKey === undefined ? {} : { apiKey };
  return new Cairn({ url: url ?? "", ...key });
}

function cut(source: string, start: number, end: number): string {
  return [...source].slice(start, end).join("");
}

function assertQuoted(citations: Citation[]): void {
  for (const { document_id, start, end, quote } of citations) {
    assert.equal(cut(SOURCES[document_id] ?? "", start, end), quote);
  }
}

test("a real server answers with citations that stand in the source", { skip }, async (t) => {
  const cairn = client();
  t.after(() => fetch(`${url}/collections/${collection}`, { method: "DELETE" }));
  assert.equal(await cairn.health(), true);

  const documents = Object.entries(SOURCES).map(([id, text]) => ({
    id,
    text,
    title: `Title of ${id}`,
    metadata: { lang: "en", id },
  }));
  const added = await cairn.addDocuments(collection, documents, { format: "markdown" });
  assert.equal(added.documents, 2);
  assert.ok(added.passages >= 2);

  const hits = await cairn.search(collection, "why do hikers pile stones?", { limit: 3 });
  assert.equal(hits[0]?.document_id, "stones");
  for (const hit of hits) {
    assert.equal(cut(SOURCES[hit.document_id] ?? "", hit.start, hit.end), hit.text);
  }
  const filter = { must: [{ key: "metadata.id", match: { value: "lamps" } }] };
  for (const hit of await cairn.search(collection, "stones", { filter })) {
    assert.equal(hit.document_id, "lamps");
  }

  const answer = await cairn.ask(collection, "What do hikers build to mark a path?");
  assert.equal(answer.refused, false);
  assert.ok(answer.citations.length > 0);
  assertQuoted(answer.citations);

  const events: AskEvent[] = [];
  for await (const event of cairn.askStream(collection, "What gathers the light of a lamp?")) {
    events.push(event);
  }
  assert.equal(events[0]?.type, "retrieval");
  const done = events.at(-1);
  assert.ok(done?.type === "done");
  const text = events.map((event) => (event.type === "delta" ? event.text : "")).join("");
  assert.equal(text, done.answer.answer);
  const cited = events.flatMap((event) => (event.type === "citation" ? [event.citation] : []));
  assert.deepEqual(cited, done.answer.citations);
  assertQuoted(cited);

  assert.ok((await cairn.deleteDocument(collection, "lamps")) > 0);
  const left = await cairn.search(collection, "lighthouse lamp");
  assert.ok(left.every((hit) => hit.document_id === "stones"));
});

test("a real server embeds texts to unit vectors", { skip }, async () => {
  const vectors = await client().embed(["a heap of stones", "a pile of rocks"]);
  assert.equal(vectors.length, 2);
  for (const vector of vectors) {
    const norm = Math.hypot(...vector);
    assert.ok(Math.abs(norm - 1) < 1e-4, `norm ${norm}`);
  }
});

test("a real server names the collection it does not have", { skip }, async () => {
  await assert.rejects(
    () => client().search("no-such-collection", "q"),
    (error) => error instanceof CairnError && error.status === 404 && /no-such/.test(error.message),
  );
});

test("uploads that nobody waits for are jobs, and end as they are told", { skip }, async (t) => {
  const cairn = client();
  const name = `${collection}-jobs`;
  t.after(() => fetch(`${url}/collections/${name}`, { method: "DELETE" }));
  const content = new TextEncoder().encode(SOURCES["stones"]);
  const files = [
    { name: "stones.md", content },
    { name: "broken.pdf", content: "no pdf" },
  ];
  const queued = await cairn.queueFiles(name, files);
  assert.equal(queued.files, 2);
  const done = await cairn.waitForJob(queued.id, { timeoutMs: 60_000 });
  assert.deepEqual([done.state, done.documents, done.failed], ["done", 1, 1]);
  assert.equal(done.failures?.[0]?.name, "broken.pdf");
  const documents = [{ id: "lamps", text: SOURCES["lamps"] ?? "" }];
  const second = await cairn.waitForJob((await cairn.queueDocuments(name, documents)).id);
  assert.equal(second.documents, 1);
  const listed = await cairn.jobs({ collection: name, state: "done" });
  assert.deepEqual(listed.map((job) => job.id), [second.id, done.id]);
  // One that has ended stays as it was, or says that it cannot be cancelled.
  await assert.rejects(cairn.job("no-such-job"), { status: 404 });
  const long = Array.from({ length: 300 }, (_, n) => ({ id: `n${n}`, text: `Stone ${n}. `.repeat(200) }));
  const running = await cairn.queueDocuments(name, long);
  await cairn.cancelJob(running.id);
  assert.equal((await cairn.waitForJob(running.id, { timeoutMs: 60_000 })).state, "cancelled");
});

test("points of a collection can be called by strings", { skip }, async (t) => {
  const cairn = client();
  const name = `${collection}-strings`;
  const path = `${url}/collections/${name}`;
  t.after(() => fetch(path, { method: "DELETE" }));
  const headers = { "content-type": "application/json", ...(apiKey ? { "api-key": apiKey } : {}) };
  const put = (id: string) =>
    fetch(`${path}/points?wait=true`, {
      method: "PUT",
      headers,
      body: JSON.stringify({ points: [{ id, vector: [1, 0] }] }),
    });
  assert.equal(await cairn.createCollection(name, { size: 2, distance: "Dot" }), true);
  assert.equal((await put("quarry/1")).status, 400);
  assert.equal(await cairn.takeStringIds(name), true);
  assert.equal((await put("quarry/1")).status, 200);
  const again = await fetch(path, { method: "DELETE", headers });
  assert.equal(again.status, 200);
  await cairn.createCollection(name, { size: 2, distance: "Dot" }, { stringIds: true });
  assert.equal((await put("quarry/2")).status, 200);
});
