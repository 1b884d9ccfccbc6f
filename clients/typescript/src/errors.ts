/** The one error of this package, and how it is read from a response. */

/**
 * A request that did not succeed.
 *
 * `status` is the HTTP status, or 0 when the server gave no usable answer: it
 * could not be reached, was too slow, or broke off. `message` is the server's
 * own text, or says what to do.
 */
export class CairnError extends Error {
  override readonly name = "CairnError";

  constructor(
    readonly status: number,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Reads the error text from the body of a failed response, whichever shape it has. */
export function fromResponse(status: number, body: string): CairnError {
  const text = messageOf(body.trim());
  return new CairnError(status, text || `the server answered ${status} and no text`);
}

/** Says what went wrong between us and the server, and what to do. */
export function fromTransport(url: string, error: unknown): CairnError {
  if (error instanceof CairnError) {
    return error;
  }
  const mend = mendOf(error);
  return new CairnError(0, `no answer from ${url}: ${causeOf(error)}; ${mend}`, { cause: error });
}

/** The error of an answer that is not in the shape we know. */
export function unreadable(url: string, error: unknown): CairnError {
  const text = `the answer of ${url} cannot be read (${causeOf(error)}); is it a Cairn server?`;
  return new CairnError(0, text, { cause: error });
}

function mendOf(error: unknown): string {
  if (error instanceof Error && error.name === "TimeoutError") {
    return "pass a larger `timeoutMs`, or send less at once";
  }
  const cause = error instanceof Error ? error.cause : undefined;
  const code = at(cause, "code");
  if (code === "ERR_INVALID_URL" || /unknown scheme/.test(String(at(cause, "message")))) {
    return "write the address as http://HOST:PORT";
  }
  // A browser does not tell why it could not connect.
  if (cause === undefined || ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN"].includes(String(code))) {
    return "start the server with `cairn serve`, or pass its address as `url`";
  }
  return "see the server's log, then try again";
}

function messageOf(text: string): string {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return text; // a wrong key is answered with plain text
  }
  // Ours is `status.error`, the OpenAI endpoints have `error.message`.
  const shapes = [["status", "error"], ["error", "message"], ["error"]];
  for (const path of shapes) {
    const found = path.reduce<unknown>(at, body);
    if (typeof found === "string") {
      return found;
    }
  }
  return text;
}

function at(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null
    ? (value as Record<string, unknown>)[key]
    : undefined;
}

// `fetch` says only "fetch failed"; what failed is in the cause.
function causeOf(error: unknown): string {
  if (!(error instanceof Error)) {
    return String(error);
  }
  const { cause } = error;
  if (cause instanceof Error) {
    return cause.message || String(at(cause, "code") ?? cause.name);
  }
  return error.message || error.name;
}
