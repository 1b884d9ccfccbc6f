/**
 * Server-sent events from the bytes of a response, whichever way they are cut.
 *
 * Follows the parsing rules of the HTML standard for `event` and `data`.
 */

export interface ServerEvent {
  event: string;
  data: string;
}

export class EventParser {
  // `stream: true` below keeps the bytes of a character cut in two.
  #decoder = new TextDecoder();
  #rest = "";
  #event = "";
  #data: string[] = [];
  #afterCr = false;

  /** Takes the next bytes; returns the events they complete. */
  push(chunk: Uint8Array): ServerEvent[] {
    const events: ServerEvent[] = [];
    for (const line of this.#lines(this.#decoder.decode(chunk, { stream: true }))) {
      if (line !== "") {
        this.#field(line);
        continue;
      }
      if (this.#data.length > 0) {
        events.push({ event: this.#event || "message", data: this.#data.join("\n") });
      }
      this.#event = "";
      this.#data = [];
    }
    return events;
  }

  #lines(text: string): string[] {
    if (text === "") {
      return [];
    }
    // A CR ends its line at once; the LF that may follow it, perhaps in the
    // next chunk, belongs to the same line end.
    const fresh = this.#afterCr && text.startsWith("\n") ? text.slice(1) : text;
    this.#afterCr = text.endsWith("\r");
    const lines = (this.#rest + fresh).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() ?? "";
    return lines;
  }

  #field(line: string): void {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") {
      this.#event = value;
    } else if (name === "data") {
      this.#data.push(value);
    }
  }
}
