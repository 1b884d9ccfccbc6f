// The unmodified openai SDK against our server: chat, embeddings, files, vector
// stores, responses.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import OpenAI, { toFile } from "openai";

import { start } from "./server.mjs";

const TEXT = "# Rules\n\nEvery stone is placed by hand.\n\nIn heavy rain the path over the ridge is closed.\n";
const QUESTION = "When is the path over the ridge closed?";

let server, client, store;
before(async () => {
  server = await start();
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
  store = await client.vectorStores.create({ name: "rules" });
  const file = await toFile(Buffer.from(TEXT), "rules.md");
  const added = await client.vectorStores.files.uploadAndPoll(store.id, file);
  assert.equal(added.status, "completed", JSON.stringify(added.last_error));
});
after(() => server.stop());

test("texts become vectors", async () => {
  const list = await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: ["a", "b"] });
  assert.deepEqual(list.data.map((item) => item.embedding.length), [384, 384]);
});

test("a chat answers from a store, at once and streamed", async () => {
  const asked = { model: `cairn/${store.id}`, messages: [{ role: "user", content: QUESTION }] };
  const whole = await client.chat.completions.create(asked);
  assert.match(whole.choices[0].message.content, /heavy rain/);
  let said = "";
  for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
    said += chunk.choices[0]?.delta?.content ?? "";
  }
  assert.equal(said, whole.choices[0].message.content);
});

test("a store is searched, and its file read back", async () => {
  const found = await client.vectorStores.search(store.id, { query: QUESTION });
  assert.equal(found.data[0].filename, "rules.md");
  const content = await client.files.content(found.data[0].file_id);
  assert.equal(await content.text(), TEXT);
});

test("a response cites the file, at once and streamed", async () => {
  const tools = [{ type: "file_search", vector_store_ids: [store.id] }];
  const asked = { model: "cairn", input: QUESTION, tools };
  const whole = await client.responses.create(asked);
  assert.match(whole.output_text, /heavy rain/);
  const [note] = whole.output[1].content[0].annotations;
  assert.equal(note.filename, "rules.md");
  assert.equal(TEXT.slice(note.start, note.end), note.quote);
  let said = "";
  for await (const event of await client.responses.create({ ...asked, stream: true })) {
    if (event.type === "response.output_text.delta") said += event.delta;
  }
  assert.equal(said, whole.output_text);
});

test("a store that is not there is not found", async () => {
  await assert.rejects(client.vectorStores.retrieve("vs_none"), OpenAI.NotFoundError);
});
