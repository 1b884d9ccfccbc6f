import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { Cairn, CairnError, type AskEvent } from "../src/index.js";

const HIT = {
  id: 1,
  document_id: "a",
  title: "A",
  heading: ["H1"],
  start: 0,
  end: 4,
  text: "text",
  score: 0.5,
  metadata: { lang: "en" },
};
const CITATION = { document_id: "a", title: "A", start: 0, end: 4, quote: "text", score: 0.5 };
const ANSWER = {
  answer: "text",
  citations: [CITATION],
  refused: false,
  reason: null,
  generator: "extractive",
};

const JOB = {
  id: "job-7",
  collection: "docs",
  state: "queued",
  before: 2,
  created_at: "2026-01-02T03:04:05.006Z",
  started_at: null,
  ended_at: null,
  files: 3,
  files_done: 1,
};

interface Sent {
  method: string | undefined;
  path: string | undefined;
  key: string | string[] | undefined;
  body: unknown;
}

// A server that notes what was sent and answers what the test says.
let sent: Sent;
let respond: (response: ServerResponse) => void;
const server = createServer((request, response) => {
  void readAll(request).then((text) => {
    sent = {
      method: request.method,
      path: request.url,
      key: request.headers["api-key"],
      body: text === "" ? undefined : text.startsWith("--") ? text : JSON.parse(text),
    };
    respond(response);
  });
});
let url: string;

before(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

after(() => {
  server.closeAllConnections();
  server.close();
});

async function readAll(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) {
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString();
}

function answers(body: unknown, status = 200): void {
  respond = (response) => {
    response.writeHead(status).end(typeof body === "string" ? body : JSON.stringify(body));
  };
}

function streams(...events: [name: string, data: unknown][]): void {
  const text = events.map(([name, data]) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  respond = (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" }).end(text.join(""));
  };
}

async function collect(events: AsyncIterable<AskEvent>): Promise<AskEvent[]> {
  const all: AskEvent[] = [];
  for await (const event of events) {
    all.push(event);
  }
  return all;
}

async function failure(run: () => Promise<unknown>): Promise<CairnError> {
  try {
    await run();
  } catch (error) {
    assert.ok(error instanceof CairnError, String(error));
    return error;
  }
  return assert.fail("it should have failed");
}

test("documents are sent as they are and counted", async () => {
  const added = { documents: 1, passages: 3, tokens: 120 };
  answers({ result: added, status: "ok", time: 0 });
  const documents = [{ id: "a", title: "T", text: "text", metadata: { n: 1 } }];
  const cairn = new Cairn({ url: `${url}/`, apiKey: "k" });
  assert.deepEqual(await cairn.addDocuments("my docs", documents, { format: "markdown" }), added);
  assert.deepEqual(sent, {
    method: "PUT",
    path: "/collections/my%20docs/documents",
    key: "k",
    body: { documents, format: "markdown" },
  });
});

test("an upload that is queued is a job", async () => {
  answers({ result: JOB, status: "accepted" }, 202);
  const documents = [{ id: "a", text: "text" }];
  const cairn = new Cairn({ url });
  assert.deepEqual(await cairn.queueDocuments("my docs", documents, { format: "text" }), JOB);
  assert.equal(sent.path, "/collections/my%20docs/documents?wait=false");
  assert.deepEqual(sent.body, { documents, format: "text" });

  const files = [
    { name: "nöte.md", content: "# Note" },
    { name: "b.pdf", content: new Uint8Array([37, 80, 68, 70]) },
    { name: "c.txt", content: new Blob(["stones"]) },
  ];
  assert.equal((await cairn.queueFiles("docs", files)).id, "job-7");
  assert.equal(sent.method, "POST");
  assert.equal(sent.path, "/collections/docs/documents/files?wait=false");
  for (const part of ["# Note", 'filename="b.pdf"', "%PDF", "stones"]) {
    assert.ok(String(sent.body).includes(part), String(sent.body));
  }
  assert.match((await failure(() => cairn.queueFiles("docs", []))).message, /no file/);
});

test("jobs are looked at, listed, waited for and cancelled", async () => {
  const cairn = new Cairn({ url });
  answers({ result: { jobs: [JOB] } });
  assert.deepEqual(await cairn.jobs({ collection: "my docs", state: "queued", limit: 5 }), [JOB]);
  assert.equal(sent.path, "/jobs?collection=my+docs&state=queued&limit=5");
  await cairn.jobs();
  assert.equal(sent.path, "/jobs");
  answers({ result: { ...JOB, cancel_asked: true } });
  assert.equal((await cairn.cancelJob("job-7")).cancel_asked, true);
  assert.equal(sent.method, "DELETE");

  const results = [JOB, { ...JOB, state: "running" }, { ...JOB, state: "failed", error: "gone" }];
  respond = (response) => response.end(JSON.stringify({ result: results.shift() }));
  assert.equal((await cairn.waitForJob("job-7", { timeoutMs: 30_000 })).error, "gone");
  assert.equal(results.length, 0);
  answers({ result: { ...JOB, state: "running" } });
  const late = await failure(() => cairn.waitForJob("job-7", { timeoutMs: 300 }));
  assert.match(late.message, /job-7 is running .* 1 of 3 files; it goes on/);
});

test("a collection can take strings as ids", async () => {
  const cairn = new Cairn({ url });
  answers({ result: true });
  const vectors = { size: 2, distance: "Dot" };
  assert.equal(await cairn.createCollection("c", vectors, { stringIds: true }), true);
  assert.deepEqual([sent.method, sent.path, sent.body], ["PUT", "/collections/c", { vectors, string_ids: true }]);
  await cairn.createCollection("c", vectors);
  assert.deepEqual(sent.body, { vectors });
  assert.equal(await cairn.takeStringIds("c"), true);
  assert.deepEqual([sent.method, sent.path, sent.body], ["PATCH", "/collections/c", { string_ids: true }]);
});

test("a document id may have slashes but cannot climb out of its path", async () => {
  answers({ result: { deleted: 3 } });
  assert.equal(await new Cairn({ url }).deleteDocument("c", "a/b?c#d%e"), 3);
  assert.equal(sent.method, "DELETE");
  assert.equal(sent.path, "/collections/c/documents/a%2Fb%3Fc%23d%25e");
  for (const id of ["", ".", ".."]) {
    const error = await failure(() => new Cairn({ url }).deleteDocument("c", id));
    assert.match(error.message, /cannot stand in a URL/);
  }
});

test("search and ask send only what was given", async () => {
  answers({ result: { hits: [HIT] } });
  const filter = { must: [{ key: "metadata.lang", match: { value: "en" } }] };
  assert.deepEqual(await new Cairn({ url }).search("c", "q", { limit: 3, filter }), [HIT]);
  assert.deepEqual(sent.body, { query: "q", limit: 3, filter });
  answers({ result: ANSWER });
  assert.deepEqual(await new Cairn({ url }).ask("c", "q"), ANSWER);
  assert.equal(sent.path, "/collections/c/ask");
  assert.deepEqual(sent.body, { question: "q", stream: false });
});

test("a stream gives typed events and stops at done", async () => {
  streams(
    ["retrieval", { passages: [HIT] }],
    ["delta", { text: "te" }],
    ["later", { unknown: 1 }],
    ["delta", { text: "xt" }],
    ["citation", CITATION],
    ["done", ANSWER],
    ["error", { error: "not read any more" }],
  );
  assert.deepEqual(await collect(new Cairn({ url }).askStream("c", "q", { limit: 2 })), [
    { type: "retrieval", passages: [HIT] },
    { type: "delta", text: "te" },
    { type: "delta", text: "xt" },
    { type: "citation", citation: CITATION },
    { type: "done", answer: ANSWER },
  ]);
  assert.deepEqual(sent.body, { question: "q", limit: 2, stream: true });
});

test("events arrive while the server is still writing, cut inside a character", async () => {
  const bytes = Buffer.from(`event: delta\r\ndata: {"text":"\u{1f9ed}"}\r\n\r\n`);
  const cut = bytes.indexOf(0xf0) + 2;
  let finish = (): void => undefined;
  respond = (response) => {
    response.write(bytes.subarray(0, cut));
    setTimeout(() => response.write(bytes.subarray(cut)), 20);
    finish = () => response.end(`event: done\ndata: ${JSON.stringify(ANSWER)}\n\n`);
  };
  const events = new Cairn({ url }).askStream("c", "q");
  assert.deepEqual((await events.next()).value, { type: "delta", text: "\u{1f9ed}" });
  finish();
  assert.deepEqual((await events.next()).value, { type: "done", answer: ANSWER });
  assert.equal((await events.next()).done, true);
});

test("leaving the loop closes the connection", async () => {
  const closed = new Promise<void>((resolve) => {
    respond = (response) => {
      response.on("close", resolve);
      response.write('event: delta\ndata: {"text":"x"}\n\n');
    };
  });
  for await (const event of new Cairn({ url }).askStream("c", "q")) {
    assert.equal(event.type, "delta");
    break;
  }
  await closed;
});

test("a stream that fails, breaks off or stalls is an error", async () => {
  const ask = (timeoutMs = 5_000) => collect(new Cairn({ url, timeoutMs }).askStream("c", "q"));
  streams(["delta", { text: "te" }], ["error", { error: "the model is gone" }]);
  assert.equal((await failure(ask)).message, "the model is gone");
  streams(["delta", { text: "te" }]);
  assert.match((await failure(ask)).message, /broke off/);
  respond = (response) => response.end("event: delta\ndata: no json\n\n");
  assert.match((await failure(ask)).message, /is it a Cairn server/);
  answers({ status: { error: "Not found: x" }, time: 0 }, 404);
  assert.equal((await failure(ask)).status, 404);
  respond = (response) => response.write('event: delta\ndata: {"text":"x"}\n\n');
  assert.match((await failure(() => ask(100))).message, /nothing came for 100 ms; pass a larger/);
  respond = (response) => {
    response.write('event: delta\ndata: {"text":"x"}\n\n');
    setTimeout(() => response.destroy(), 20);
  };
  assert.match((await failure(ask)).message, /see the server's log/);
});

test("vectors come back exactly and in the order of the texts", async () => {
  const rows = [
    [0.1, -2.5],
    [3, 1e-20],
  ].map((row) => Float32Array.from(row));
  const data = rows
    .map((row, index) => ({ index, embedding: Buffer.from(row.buffer).toString("base64") }))
    .reverse();
  answers({ object: "list", data });
  assert.deepEqual(await new Cairn({ url }).embed(["a", "b"]), rows);
  assert.deepEqual(sent.body, { input: ["a", "b"], encoding_format: "base64" });
});

test("health tells ready from starting", async () => {
  answers("all shards are ready");
  assert.equal(await new Cairn({ url }).health(), true);
  answers("starting", 503);
  assert.equal(await new Cairn({ url }).health(), false);
});

test("every shape of error gives its text", async () => {
  const bodies = [
    { status: { error: "what went wrong" }, time: 0 },
    { error: { message: "what went wrong", type: "x" } },
    { error: "what went wrong" },
    "what went wrong",
  ];
  for (const body of bodies) {
    answers(body, 401);
    const error = await failure(() => new Cairn({ url }).search("c", "q"));
    assert.deepEqual([error.status, error.message], [401, "what went wrong"]);
  }
});

test("an answer from something else is an error, not a crash", async () => {
  for (const body of ["<html>hello</html>", "[]", "null", '{"result":null}']) {
    answers(body);
    const error = await failure(() => new Cairn({ url }).search("c", "q"));
    assert.match(error.message, /is it a Cairn server/);
  }
  answers("{}");
  assert.match((await failure(() => new Cairn({ url }).embed(["a"]))).message, /Cairn server/);
});

test("a server that is slow or not there is an error that says what to do", async () => {
  const free = createServer();
  await new Promise<void>((resolve) => free.listen(0, "127.0.0.1", resolve));
  const { port } = free.address() as AddressInfo;
  await new Promise((resolve) => free.close(resolve));
  const search = (options: { url: string; timeoutMs?: number }) =>
    failure(() => new Cairn(options).search("c", "q"));
  const gone = await search({ url: `http://127.0.0.1:${port}` });
  assert.equal(gone.status, 0);
  assert.match(gone.message, /start the server with `cairn serve`/);
  assert.match((await search({ url: "127.0.0.1:6333" })).message, /http:\/\/HOST:PORT/);
  assert.match((await search({ url: "localhost:6333" })).message, /http:\/\/HOST:PORT/);
  respond = () => undefined;
  assert.match((await search({ url, timeoutMs: 50 })).message, /pass a larger `timeoutMs`/);
});
