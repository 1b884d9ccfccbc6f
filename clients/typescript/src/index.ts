/**
 * Client for the text endpoints of a Cairn server.
 *
 * Points and collections speak the Qdrant protocol: use
 * `@qdrant/js-client-rest` for those.
 */

export { Cairn } from "./client.js";
export { CairnError } from "./errors.js";
export type {
  Added,
  Answer,
  AskEvent,
  AskOptions,
  CairnOptions,
  Citation,
  Document,
  Filter,
  Format,
  Hit,
  Job,
  JobsOptions,
  JobState,
  SearchOptions,
  UploadFile,
  VectorParams,
  WaitOptions,
} from "./types.js";
