/** Makes a client of what a user has given. */
import { SelvageError } from "../../errors.ts";
import type { User } from "./authentication.ts";
import { EtcdClient } from "./client.ts";
import { Dispatcher } from "./dispatcher.ts";
import { parseEndpoints } from "./endpoint.ts";
import type { Etcd } from "./kv.ts";

/** Where etcd is, and who we are to it. Null, and an empty text, is: not given. */
export interface EtcdOptions {
  /** `http://ADDRESS:PORT` or `https://…`, tried in this order; the one that answers is kept. */
  readonly endpoints: readonly string[];
  /** PEM files: the authority that signed the servers' certificates, and our own pair. */
  readonly cafile: string | null;
  readonly certfile: string | null;
  readonly keyfile: string | null;
  readonly username: string | null;
  readonly password: string | null;
  /** For a call as a whole, over all endpoints. */
  readonly deadline_ms?: number;
  /** For a read at one endpoint where there are others. */
  readonly attempt_ms?: number;
  /** For a connection to come about. */
  readonly connect_ms?: number;
  /** Entries of a list in one answer; fewer where they are large. */
  readonly pageSize?: number;
  /** A watch that is silent asks for a sign of life after so long. */
  readonly progress_ms?: number;
  /** A watch that is silent for so long is dead. */
  readonly silence_ms?: number;
}

function given(text: string | null): string | null {
  return text === "" ? null : text;
}

function userOf(username: string | null, password: string | null): User | null {
  if (username !== null && password !== null) return { name: username, password };
  if (username === null && password === null) return null;
  const text = username === null
    ? "etcd: a password is given without a user"
    : `etcd: user ${JSON.stringify(username)} is given without a password`;
  throw new SelvageError("invalid_argument", text, {
    hint: "Give both --etcd-username and --etcd-password, or neither.",
  });
}

/**
 * A client that connects at its first call. Throws `invalid_argument` for a malformed endpoint, a
 * file that cannot be used, or half of a pair. The files are read again for each connection.
 */
export function openEtcd(options: EtcdOptions): Etcd {
  const files = {
    cafile: given(options.cafile),
    certfile: given(options.certfile),
    keyfile: given(options.keyfile),
  };
  const user = userOf(given(options.username), given(options.password));
  const hasFiles = Object.values(files).some((file) => file !== null);
  const endpoints = parseEndpoints(options.endpoints, hasFiles);
  const dispatcher = new Dispatcher(endpoints, files, user, {
    deadline_ms: options.deadline_ms ?? 10_000,
    attempt_ms: options.attempt_ms ?? 4_000,
    connect_ms: options.connect_ms ?? 3_000,
  });
  return new EtcdClient(dispatcher, options.pageSize ?? 10_000, {
    progress_ms: options.progress_ms ?? 4_000,
    silence_ms: options.silence_ms ?? 12_000,
  });
}
