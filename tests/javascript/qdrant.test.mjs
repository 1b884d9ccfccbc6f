// The unmodified JavaScript client against our server.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { QdrantClient } from "@qdrant/js-client-rest";

import { start } from "./server.mjs";

let server, client;
before(async () => {
  server = await start();
  client = new QdrantClient({ url: server.url });
});
after(() => server.stop());

async function filled(name) {
  await client.createCollection(name, { vectors: { size: 4, distance: "Dot" } });
  const points = [1, 2, 3, 4, 5].map((id) => ({
    id,
    vector: [id, 1, 0, 0],
    payload: { n: id, kind: id % 2 ? "odd" : "even" },
  }));
  const done = await client.upsert(name, { wait: true, points });
  assert.equal(done.status, "completed");
}

test("a collection is made, described, changed, named otherwise and removed", async () => {
  await filled("made");
  const info = await client.getCollection("made");
  assert.deepEqual([info.points_count, info.config.params.vectors], [5, { size: 4, distance: "Dot" }]);
  assert.equal(await client.updateCollection("made", { hnsw_config: { m: 20 } }), true);
  assert.equal((await client.getCollection("made")).config.hnsw_config.m, 20);
  const create_alias = { collection_name: "made", alias_name: "other" };
  assert.equal(await client.updateCollectionAliases({ actions: [{ create_alias }] }), true);
  assert.equal((await client.count("other")).count, 5);
  assert.equal((await client.collectionExists("made")).exists, true);
  assert.equal(await client.deleteCollection("made"), true);
  await assert.rejects(client.getCollection("made"), { status: 404 });
});

test("points are found, filtered, grouped, counted and scrolled", async () => {
  await filled("found");
  const query = [1, 0, 0, 0];
  const filter = { must: [{ key: "kind", match: { value: "odd" } }] };
  const { points } = await client.query("found", { query, filter, with_payload: true });
  assert.deepEqual(points.map((hit) => [hit.id, hit.score]), [[5, 5], [3, 3], [1, 1]]);
  const batch = await client.queryBatch("found", { searches: [{ query, limit: 1 }, { query: 5, limit: 1 }] });
  assert.deepEqual(batch.map((found) => found.points[0].id), [5, 4]);
  const { groups } = await client.queryGroups("found", { query, group_by: "kind", group_size: 1 });
  assert.deepEqual(groups.map((group) => group.id), ["odd", "even"]);
  assert.equal((await client.count("found", { filter })).count, 3);
  await client.createPayloadIndex("found", { field_name: "n", field_schema: "integer", wait: true });
  const order_by = { key: "n", direction: "desc" };
  const ordered = await client.scroll("found", { order_by, limit: 2 });
  assert.deepEqual(ordered.points.map((point) => [point.id, point.order_value]), [[5, 5], [4, 4]]);
  const facet = await client.facet("found", { key: "n", limit: 2 });
  assert.deepEqual(facet.hits, [{ value: 1, count: 1 }, { value: 2, count: 1 }]);
  const prefetch = [{ query, limit: 3 }, { query: [0, 1, 0, 0], limit: 3 }];
  const fused = await client.query("found", { prefetch, query: { fusion: "rrf" }, limit: 5 });
  assert.ok(fused.points.length >= 3);
});

test("points are changed in every way", async () => {
  await filled("changed");
  await client.setPayload("changed", { points: [1], payload: { a: { b: 1 } }, wait: true });
  await client.overwritePayload("changed", { points: [2], payload: { c: 1 }, wait: true });
  await client.deletePayload("changed", { points: [3], keys: ["n"], wait: true });
  await client.clearPayload("changed", { points: [4], wait: true });
  await client.updateVectors("changed", { points: [{ id: 5, vector: [0, 0, 0, 9] }], wait: true });
  await client.delete("changed", { filter: { must: [{ has_id: [77] }] }, wait: true });
  const records = await client.retrieve("changed", { ids: [1, 2, 3, 4, 5], with_vector: true });
  assert.deepEqual(records.map((record) => record.payload ?? {}), [
    { n: 1, kind: "odd", a: { b: 1 } },
    { c: 1 },
    { kind: "odd" },
    {},
    { n: 5, kind: "odd" },
  ]);
  assert.deepEqual(records[4].vector, [0, 0, 0, 9]);
  const operations = [{ delete: { points: [1] } }, { delete_vectors: { points: [2], vector: [""] } }];
  assert.equal((await client.batchUpdate("changed", { operations, wait: true })).length, 2);
  assert.equal((await client.count("changed")).count, 4);
});

test("snapshots are made, listed and removed", async () => {
  await filled("kept");
  const { name } = await client.createSnapshot("kept");
  assert.deepEqual((await client.listSnapshots("kept")).map((snapshot) => snapshot.name), [name]);
  const location = `${server.url}/collections/kept/snapshots/${name}`;
  assert.equal(await client.recoverSnapshot("copied", { location }), true);
  assert.equal((await client.count("copied")).count, 5);
  assert.equal(await client.deleteSnapshot("kept", name), true);
});
