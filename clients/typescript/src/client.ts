/** The client: builds a request, sends it with `fetch`, reads the result. */

import { CairnError, fromResponse, fromTransport, unreadable } from "./errors.js";
import { EventParser, type ServerEvent } from "./events.js";
import type {
  Added,
  Answer,
  AskEvent,
  AskOptions,
  CairnOptions,
  Citation,
  Document,
  Format,
  Hit,
  Job,
  JobsOptions,
  SearchOptions,
  UploadFile,
  VectorParams,
  WaitOptions,
} from "./types.js";

/** Milliseconds between two questions whether a job has ended. */
const POLL_MS = 200;

/** A Cairn server. A request that does not succeed throws a `CairnError`. */
export class Cairn {
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #timeoutMs: number;

  constructor(options: CairnOptions = {}) {
    this.#url = (options.url ?? "http://127.0.0.1:6333").replace(/\/+$/, "");
    this.#headers = options.apiKey === undefined ? {} : { "api-key": options.apiKey };
    this.#timeoutMs = options.timeoutMs ?? 60_000;
  }

  /**
   * Makes a collection for points. With `stringIds` they may be called by any
   * string; without, by numbers and UUIDs. For documents none needs to be made.
   */
  async createCollection(
    collection: string,
    vectors: VectorParams,
    options: { stringIds?: boolean } = {},
  ): Promise<boolean> {
    const ids = options.stringIds === true ? { string_ids: true } : {};
    return this.#result("PUT", collectionPath(collection), { vectors, ...ids });
  }

  /** Lets points of a collection be called by any string from now on. */
  async takeStringIds(collection: string): Promise<boolean> {
    return this.#result("PATCH", collectionPath(collection), { string_ids: true });
  }

  /**
   * Splits documents into passages and makes them searchable. Creates the
   * collection when it is missing. Without `format` texts are read as Markdown,
   * which plain prose also is.
   */
  async addDocuments(
    collection: string,
    documents: Document[],
    options: { format?: Format } = {},
  ): Promise<Added> {
    const path = `${collectionPath(collection)}/documents`;
    return this.#result("PUT", path, { documents, ...options });
  }

  /** Like `addDocuments`, but answers as soon as they are on the server's disk. */
  async queueDocuments(
    collection: string,
    documents: Document[],
    options: { format?: Format } = {},
  ): Promise<Job> {
    const path = `${collectionPath(collection)}/documents?wait=false`;
    return this.#result("PUT", path, { documents, ...options });
  }

  /** Uploads files of any known format; answers as soon as they are on the server's disk. */
  async queueFiles(collection: string, files: UploadFile[]): Promise<Job> {
    if (files.length === 0) {
      throw new CairnError(400, "there is no file to upload");
    }
    const form = new FormData();
    for (const { name, content } of files) {
      form.append("file", content instanceof Blob ? content : new Blob([content as BlobPart]), name);
    }
    return this.#result("POST", `${collectionPath(collection)}/documents/files?wait=false`, form);
  }

  /** How far an upload is that was queued. */
  async job(id: string): Promise<Job> {
    return this.#result("GET", `/jobs/${segment("job id", id)}`);
  }

  /** Jobs that wait, run or have ended lately, the newest first. */
  async jobs(options: JobsOptions = {}): Promise<Job[]> {
    const wanted = new URLSearchParams();
    for (const [key, value] of Object.entries(options)) {
      if (value !== undefined) {
        wanted.set(key, String(value));
      }
    }
    const path = wanted.size === 0 ? "/jobs" : `/jobs?${wanted}`;
    return (await this.#result<{ jobs: Job[] }>("GET", path)).jobs;
  }

  /** Ends a job: a queued one at once, a running one within a batch; what it wrote stays. */
  async cancelJob(id: string): Promise<Job> {
    return this.#result("DELETE", `/jobs/${segment("job id", id)}`);
  }

  /** The job when it has ended, however it did. */
  async waitForJob(id: string, options: WaitOptions = {}): Promise<Job> {
    const limitMs = options.timeoutMs ?? Infinity;
    const start = Date.now();
    for (;;) {
      const job = await this.job(id);
      if (job.state === "done" || job.state === "failed" || job.state === "cancelled") {
        return job;
      }
      if (Date.now() - start >= limitMs) {
        const done = `${job.files_done} of ${job.files} files`;
        const text = `job ${id} is ${job.state} after ${limitMs} ms, with ${done}; it goes on`;
        throw new CairnError(0, text);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** Removes a document; returns how many passages it had. */
  async deleteDocument(collection: string, id: string): Promise<number> {
    const path = `${collectionPath(collection)}/documents/${segment("document id", id)}`;
    return (await this.#result<{ deleted: number }>("DELETE", path)).deleted;
  }

  /** Finds the passages nearest in meaning to `query`, best first. */
  async search(collection: string, query: string, options: SearchOptions = {}): Promise<Hit[]> {
    const path = `${collectionPath(collection)}/search`;
    const { limit, filter, retrieval, explain } = options;
    const body = { query, limit, filter, retrieval, explain };
    return (await this.#result<{ hits: Hit[] }>("POST", path, body)).hits;
  }

  /** Answers from the collection, with citations, or says that it cannot. */
  async ask(collection: string, question: string, options: AskOptions = {}): Promise<Answer> {
    return this.#result("POST", ...askRequest(collection, question, options, false));
  }

  /**
   * Like `ask`, event by event: `retrieval`, `delta`s, `citation`s, `done`.
   * Leaving the loop early closes the connection.
   */
  async *askStream(
    collection: string,
    question: string,
    options: AskOptions = {},
  ): AsyncGenerator<AskEvent, void, undefined> {
    const clock = new Clock(this.#timeoutMs);
    try {
      const [path, body] = askRequest(collection, question, options, true);
      const response = await this.#fetch("POST", path, body, clock.signal);
      const parser = new EventParser();
      for await (const chunk of chunks(response)) {
        for (const event of parser.push(chunk)) {
          const read = this.#event(event);
          // The reader of the events may take its time; only the server may not.
          clock.stop();
          if (read !== undefined) {
            yield read;
          }
          if (read?.type === "done") {
            return;
          }
        }
        clock.restart();
      }
    } catch (error) {
      throw fromTransport(this.#url, error);
    } finally {
      clock.stop();
    }
    throw new CairnError(0, "the answer broke off; see the server's log, then ask again");
  }

  /** Turns each text into a vector, with `model` or the server's default one. */
  async embed(texts: string[], model?: string): Promise<Float32Array[]> {
    const body = { input: texts, model, encoding_format: "base64" };
    const answer = await this.#json<Embeddings>("POST", "/v1/embeddings", body);
    return this.#reading(() =>
      [...answer.data].sort((a, b) => a.index - b.index).map((row) => floats(row.embedding)),
    );
  }

  /** True when the server is ready, false while it is still starting. */
  async health(): Promise<boolean> {
    try {
      await this.#text("GET", "/readyz");
      return true;
    } catch (error) {
      if (error instanceof CairnError && error.status === 503) {
        return false;
      }
      throw error;
    }
  }

  async #result<T>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.#json<{ result?: T } | null>(method, path, body);
    if (answer?.result === undefined || answer.result === null) {
      throw unreadable(this.#url, "no `result` in it");
    }
    return answer.result;
  }

  async #json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const text = await this.#text(method, path, body);
    return this.#reading(() => JSON.parse(text) as T);
  }

  async #text(method: string, path: string, body?: unknown): Promise<string> {
    try {
      const signal = AbortSignal.timeout(this.#timeoutMs);
      return await (await this.#fetch(method, path, body, signal)).text();
    } catch (error) {
      throw fromTransport(this.#url, error);
    }
  }

  async #fetch(
    method: string,
    path: string,
    body: unknown,
    signal: AbortSignal,
  ): Promise<Response> {
    // Of a form, fetch itself says where its parts begin.
    const form = body instanceof FormData;
    const json = body === undefined || form ? {} : { "content-type": "application/json" };
    const response = await fetch(this.#url + path, {
      method,
      headers: { ...this.#headers, ...json },
      body: body === undefined ? null : form ? body : JSON.stringify(body),
      signal,
    });
    if (!response.ok) {
      throw fromResponse(response.status, await response.text());
    }
    return response;
  }

  #event({ event, data }: ServerEvent): AskEvent | undefined {
    const value: unknown = this.#reading(() => JSON.parse(data));
    switch (event) {
      case "retrieval":
        return { type: event, passages: (value as { passages: Hit[] }).passages };
      case "delta":
        return { type: event, text: (value as { text: string }).text };
      case "citation":
        return { type: event, citation: value as Citation };
      case "done":
        return { type: event, answer: value as Answer };
      case "error":
        // The status line said 200 before the answer failed.
        throw new CairnError(500, (value as { error: string }).error);
      default:
        return undefined; // a newer server may send more
    }
  }

  #reading<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw unreadable(this.#url, error);
    }
  }
}

interface Embeddings {
  data: { index: number; embedding: string }[];
}

/** Aborts its signal when it is not restarted in time. */
class Clock {
  readonly #abort = new AbortController();
  readonly #limitMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
    this.restart();
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  restart(): void {
    this.stop();
    const late = new DOMException(`nothing came for ${this.#limitMs} ms`, "TimeoutError");
    this.#timer = setTimeout(() => this.#abort.abort(late), this.#limitMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

// Not every browser's ReadableStream can be looped over, so read by hand.
async function* chunks(response: Response): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = response.body?.getReader();
  if (reader === undefined) {
    return;
  }
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function askRequest(
  collection: string,
  question: string,
  options: AskOptions,
  stream: boolean,
): [path: string, body: unknown] {
  const { limit, filter, retrieval, explain, conversationId, maxSentences } = options;
  const body = {
    question,
    limit,
    filter,
    retrieval,
    explain,
    conversation_id: conversationId,
    max_sentences: maxSentences,
    stream,
  };
  return [`${collectionPath(collection)}/ask`, body];
}

function collectionPath(name: string): string {
  return `/collections/${segment("collection name", name)}`;
}

function segment(what: string, value: string): string {
  // `documents/..` would be sent as a request for the collection itself.
  if (value === "" || value === "." || value === "..") {
    throw new CairnError(400, `${what} \`${value}\` cannot stand in a URL; choose another one`);
  }
  return encodeURIComponent(value);
}

function floats(base64: string): Float32Array {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}
