/** Makes a client of what a user has given. */
import { SelvageError } from "../../errors.ts";
import { readPasswordFile } from "../password_file.ts";
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
  /** Read again for each new token, so that a password may change; what it had last counts. */
  readonly passwordFile?: string | null;
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

/** The password as it is now: of a file that is being written, what it had before. */
function currentPassword(first: string, file: string | null): () => string {
  let known = first;
  return () => {
    try {
      if (file !== null) known = readPasswordFile(file);
    } catch {
      // It may still do; that it does not is etcd's to say.
    }
    return known;
  };
}

function userOf(options: EtcdOptions): User | null {
  const [username, password] = [given(options.username), given(options.password)];
  if (username !== null && password !== null) {
    return { name: username, password: currentPassword(password, options.passwordFile ?? null) };
  }
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
  const user = userOf(options);
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
