/**
 * What goes in and what comes out. The objects are the server's own and keep
 * its names; a newer server may send keys that are not listed here.
 */

export interface CairnOptions {
  /** Address of the server; `http://127.0.0.1:6333` when left out. */
  url?: string;
  /** Sent as the `api-key` header. */
  apiKey?: string;
  /** Bounds each wait for the server, not a whole stream; 60 000 when left out. */
  timeoutMs?: number;
}

/** "markdown" keeps the headings of each passage; "text" takes characters as they are. */
export type Format = "markdown" | "text";

/** A text to search in. A document with an `id` already there is replaced. */
export interface Document {
  id: string;
  text: string;
  title?: string;
  metadata?: Record<string, unknown>;
}

/** Qdrant's filter grammar: `{ must: [{ key: "metadata.lang", match: { value: "en" } }] }`. */
export type Filter = Record<string, unknown>;

export interface SearchOptions {
  /** Most passages to find, or to make an answer from. */
  limit?: number;
  filter?: Filter;
  /** How passages are found, for example `{ mode: "sparse" }`. */
  retrieval?: Record<string, unknown>;
  /** Fills `path` of each hit: stage, rank and score. */
  explain?: boolean;
}

export interface AskOptions extends SearchOptions {
  /** Goes on with a conversation; the question may point back to earlier ones. */
  conversationId?: string;
  /** Most sentences of an extractive answer. */
  maxSentences?: number;
}

/** What was stored: documents, the passages they became, and their tokens. */
export interface Added {
  documents: number;
  passages: number;
  tokens: number;
}

/** Vectors of a collection in Qdrant's words: `{ size: 384, distance: "Cosine" }`, or several by name. */
export type VectorParams = Record<string, unknown>;

/** A file to upload: its name tells its format. */
export interface UploadFile {
  name: string;
  content: Blob | Uint8Array | string;
}

/** `done`, `failed` and `cancelled` stay. */
export type JobState = "queued" | "running" | "done" | "failed" | "cancelled";

export interface JobsOptions {
  collection?: string;
  state?: JobState;
  /** Jobs at most; 100 when left out. */
  limit?: number;
}

export interface WaitOptions {
  /** Gives up after so long; never when left out. */
  timeoutMs?: number;
}

/**
 * An upload that nobody waits for. `files` counts documents too; some that
 * cannot be read, which `failures` names, leave a job `done`.
 */
export interface Job {
  id: string;
  collection: string;
  state: JobState;
  /** It runs and ends soon, because it is to be cancelled. */
  cancel_asked?: boolean;
  /** While it is queued: jobs that come first. */
  before?: number;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
  files: number;
  files_done: number;
  bytes: number;
  bytes_done: number;
  documents: number;
  unchanged: number;
  passages: number;
  tokens: number;
  failed: number;
  /** Not in lists. */
  failures?: { name: string; reason: string }[];
  /** Why it failed. */
  error?: string;
}

/**
 * A passage that was found; a larger `score` is better.
 *
 * `start` and `end` count Unicode characters, not UTF-16 units:
 * `[...source].slice(start, end).join("")` is `text`.
 */
export interface Hit {
  id: number | string;
  document_id: string;
  title: string;
  /** Path of headings above the passage, outermost first. */
  heading: string[];
  start: number;
  end: number;
  text: string;
  /** From 1, where the document has pages. */
  page?: number;
  score: number;
  /** What each stage gave: `dense` (cosine), `sparse` (BM25), `fused`, `rerank`. */
  scores?: { dense?: number; sparse?: number; fused?: number; rerank?: number };
  path?: { stage: string; rank: number; score: number }[];
  metadata: Record<string, unknown>;
}

/** The words of a document that support an answer, with offsets as in `Hit`. */
export interface Citation {
  document_id: string;
  title: string;
  start: number;
  end: number;
  quote: string;
  /** From 1, where the document has pages. */
  page?: number;
  score: number;
}

/**
 * An answer with its citations. When nothing supports an answer, `refused` is
 * true, `reason` says why and `citations` is empty.
 */
export interface Answer {
  answer: string;
  citations: Citation[];
  refused: boolean;
  reason: string | null;
  /** What wrote the text. */
  generator: string;
  /** What did not go as the server is configured. */
  warnings?: string[];
  /** The sentences with their support; `citations` are places in those above. */
  sentences?: { text: string; citations: number[]; support: number; supported: boolean }[];
  /** What was looked through, and how sure the answer is. */
  searched?: Record<string, unknown>;
  /** What it takes to find the same passages again. */
  provenance?: Record<string, unknown>;
  conversation_id?: string;
}

/** One event of `askStream`, in this order; `done` holds the whole answer. */
export type AskEvent =
  | { type: "retrieval"; passages: Hit[] }
  | { type: "delta"; text: string }
  | { type: "citation"; citation: Citation }
  | { type: "done"; answer: Answer };
