/** HTTPS to the registry: its certificate pinned, its addresses tried in turn, bounded in time. */
import { Agent } from "node:https";
import type { ZodType } from "zod";
import { errorText, hasCode, SelvageError } from "../errors.ts";
import { checkedJson } from "../net/checked.ts";
import { formatHostPort, type HostPort } from "../net/host_port.ts";
import { LinkedSignal } from "../net/linked_signal.ts";
import { createFetch } from "../net/node_fetch.ts";
import { readProblem } from "../net/problem.ts";
import { REGISTRY_NAME } from "./certificate.ts";
import type { JoinString } from "./join_string.ts";
import { fetchPinnedCertificate } from "./pinned_certificate.ts";
import { REGISTRY_PATH } from "./wire.ts";

/** A list of 65,534 leases takes some 20 MB. */
const REPLY_SIZE_MAX_BYTES = 64 * 1024 * 1024;

/** The longest text of a refusal that is read. */
const PROBLEM_SIZE_MAX_BYTES = 64 * 1024;

/** A refusal that tells a watcher to list anew; not an error that anyone sees. */
export class GoneError extends Error {
  override name = "GoneError";
}

/** An error that the registry answered with: it is reached. */
export class RefusalError extends SelvageError {}

interface Connection {
  readonly address: HostPort;
  readonly response: Response;
  /** Ends the response when it is aborted; disposed when nothing is read any more. */
  readonly link: LinkedSignal;
}

/** A stream that was opened. `dispose` is called when its reading has ended. */
export interface OpenStream {
  readonly body: ReadableStream<Uint8Array>;
  dispose(): void;
}

function makeAgent(): Agent {
  return new Agent({ keepAlive: true, maxFreeSockets: 2 });
}

/** The body's text. Throws `too_large` past the bound, and what the stream throws. */
async function readText(response: Response, sizeMax_bytes: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let size_bytes = 0;
  for await (const chunk of response.body ?? []) {
    size_bytes += chunk.byteLength;
    if (size_bytes > sizeMax_bytes) {
      throw new SelvageError("too_large", `a reply of more than ${sizeMax_bytes} bytes`);
    }
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** The registry of one join string. Nothing is connected before the first call. */
export class RegistryClient {
  /** Made once the certificate is known; all its connections accept that one alone. */
  #tls: { readonly ca: string; readonly agent: Agent } | null = null;
  /** Aborted when what was connected so far is to be dropped. */
  #era = new AbortController();
  /** Which address answered last; the next call begins there. */
  #first = 0;

  constructor(readonly join: JoinString, readonly deadline_ms = 10_000) {}

  /** All the addresses, for errors and the status. */
  get location(): string {
    return this.join.addresses.map(formatHostPort).join(", ");
  }

  async #connect(
    address: HostPort,
    path: string,
    init: RequestInit,
    signal: AbortSignal,
  ): Promise<Response> {
    const { fingerprint, token } = this.join;
    if (this.#tls === null) {
      const ca = await fetchPinnedCertificate(address, fingerprint, signal);
      this.#tls ??= { ca, agent: makeAgent() };
    }
    const { ca, agent } = this.#tls;
    const fetch = createFetch({ tls: { ca, servername: REGISTRY_NAME }, agent });
    const url = `https://${formatHostPort(address)}${REGISTRY_PATH}${path}`;
    const headers: Record<string, string> = { authorization: `Bearer ${token}` };
    if (init.body !== undefined) headers["content-type"] = "application/json";
    try {
      return await fetch(url, { ...init, headers, signal });
    } catch (error) {
      if (!hasCode(error, "unavailable")) throw error;
      // Each runtime words a refused certificate in its own way. Ask again, and say what it is.
      await fetchPinnedCertificate(address, fingerprint, signal);
      throw error;
    }
  }

  #deadlineError(): SelvageError {
    const text = `the registry at ${this.location} gave no answer in ${this.deadline_ms} ms`;
    return new SelvageError("unavailable", text);
  }

  /** The first response among the addresses; each has its share of the deadline to begin one. */
  async #request(path: string, init: RequestInit, signal: AbortSignal): Promise<Connection> {
    const { addresses } = this.join;
    const failures: SelvageError[] = [];
    for (let i = 0; i < addresses.length; i++) {
      const index = (this.#first + i) % addresses.length;
      const address = addresses[index]!;
      const link = new LinkedSignal([signal, this.#era.signal]);
      const late = new SelvageError(
        "unavailable",
        `registry ${formatHostPort(address)}: no answer`,
      );
      link.setDeadline(this.deadline_ms / addresses.length, late);
      try {
        const response = await this.#connect(address, path, init, link.signal);
        link.clearDeadline();
        this.#first = index;
        return { address, response, link };
      } catch (error) {
        link.dispose();
        if (signal.aborted) throw signal.reason;
        if (!(error instanceof SelvageError)) throw error;
        failures.push(error);
      }
    }
    // One that shows another certificate tells more than one that does not answer.
    const worst = failures.find((error) => error.code !== "unavailable");
    if (worst !== undefined) throw worst;
    const text = failures.map((error) => error.message).join("; ");
    throw new SelvageError("unavailable", `the registry cannot be reached: ${text}`, {
      hint: "Check that the registry's host runs and that its address and port are reachable.",
      cause: failures[0],
    });
  }

  async #refusal({ address, response }: Connection): Promise<Error> {
    if (response.status === 410) {
      await response.body?.cancel();
      return new GoneError();
    }
    const text = await readText(response, PROBLEM_SIZE_MAX_BYTES);
    const error = readProblem(response.status, text);
    const where = `registry ${formatHostPort(address)}`;
    return new RefusalError(error.code, `${where}: ${error.message}`, { hint: error.hint });
  }

  /**
   * One call, within the deadline. `schema` reads the reply; null: there is none to read. Throws
   * what the registry answered, `unavailable` if it could not be reached or answered nonsense,
   * `unauthorized` if another machine answers, the signal's reason when that is aborted.
   */
  async call<T>(
    method: "GET" | "POST",
    path: string,
    schema: ZodType<T>,
    signal: AbortSignal,
    body?: unknown,
  ): Promise<T> {
    const text = await this.callText(method, path, signal, body);
    try {
      return checkedJson(schema, text, `registry ${this.location}: reply to ${path}`);
    } catch (error) {
      throw new SelvageError("unavailable", errorText(error), { cause: error });
    }
  }

  /** As `call`, but gives the reply's text as it is. */
  async callText(
    method: "GET" | "POST",
    path: string,
    signal: AbortSignal,
    body?: unknown,
  ): Promise<string> {
    const init = { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
    const whole = new LinkedSignal([signal]);
    whole.setDeadline(this.deadline_ms, this.#deadlineError());
    try {
      const connection = await this.#request(path, init, whole.signal);
      try {
        if (!connection.response.ok) throw await this.#refusal(connection);
        return await readText(connection.response, REPLY_SIZE_MAX_BYTES);
      } finally {
        connection.link.dispose();
      }
    } finally {
      whole.dispose();
    }
  }

  /**
   * Opens a stream; only its beginning has a deadline. Throws as `call`, and `GoneError`. The
   * stream fails with the signal's reason when that is aborted, until it is disposed.
   */
  async stream(path: string, signal: AbortSignal): Promise<OpenStream> {
    const connection = await this.#request(path, { method: "GET" }, signal);
    const { response, link } = connection;
    try {
      // A refusal is short: it comes in time, or the connection is dead.
      if (!response.ok) link.setDeadline(this.deadline_ms, this.#deadlineError());
      if (!response.ok) throw await this.#refusal(connection);
      return { body: response.body ?? new ReadableStream(), dispose: () => link.dispose() };
    } catch (error) {
      link.dispose();
      throw error;
    }
  }

  /** Drops all connections; what was under way on them fails as `unavailable`. */
  reconnect(): void {
    const era = this.#era;
    this.#era = new AbortController();
    this.#tls?.agent.destroy();
    if (this.#tls !== null) this.#tls = { ca: this.#tls.ca, agent: makeAgent() };
    era.abort(new SelvageError("unavailable", "this host's own address is another now"));
  }

  close(): void {
    this.#tls?.agent.destroy();
  }
}
