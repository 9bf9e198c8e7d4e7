/** Makes a call at one endpoint after the other, until one answers. */
import { Metadata } from "@grpc/grpc-js";
import { errorText, SelvageError } from "../../errors.ts";
import { Authenticator, type User } from "./authentication.ts";
import { Connection, seconds } from "./connection.ts";
import { readTlsFiles, type TlsFiles } from "./credentials.ts";
import type { Endpoint } from "./endpoint.ts";
import { EndpointOrder } from "./endpoint_order.ts";
import { AmbiguousError } from "./error.ts";
import { ConnectError, judgeStatus, Status, StatusError } from "./status.ts";

/** Bounds in time. */
export interface CallTimes {
  /** For a call as a whole, over all endpoints. */
  readonly deadline_ms: number;
  /** For what may be repeated, at one endpoint where there are others. */
  readonly attempt_ms: number;
  /** For a connection to come about. */
  readonly connect_ms: number;
}

/** What a call finds at an endpoint. */
export interface Attempt {
  readonly connection: Connection;
  readonly metadata: Metadata;
  readonly timeout_ms: number;
  /** Whether the token was got for this very call, or none is needed. */
  readonly isTokenFresh: boolean;
  /** For streams: the endpoint has failed after it had answered. */
  reportFailure(): void;
}

/** This endpoint does not do it; nothing was done, or it does no harm twice. */
class ElsewhereError extends Error {
  constructor(message: string, readonly hint: string) {
    super(message);
  }
}

interface Failure {
  readonly endpoint: Endpoint;
  readonly why: string;
  readonly hint: string;
}

function unavailable(failures: readonly Failure[]): SelvageError {
  const hint = failures.find((failure) => failure.hint !== "")?.hint ?? "";
  const [first] = failures;
  const text = failures.length === 1
    ? `etcd at ${first!.endpoint.text}: ${first!.why}`
    // In one order, whichever was tried first: the same failure again is no news.
    : `no etcd endpoint serves: ${
      failures.map(({ endpoint, why }) => `${endpoint.text}: ${why}`).sort().join("; ")
    }`;
  return new SelvageError("unavailable", text, { hint });
}

export class Dispatcher {
  readonly #connections: (Connection | null)[];
  readonly #order: EndpointOrder;
  readonly #authenticator: Authenticator;
  #material: ReturnType<typeof readTlsFiles>;
  #callCount = 0;
  #isClosed = false;

  /** Throws `invalid_argument` for a file of `files` that cannot be used. */
  constructor(
    private readonly endpoints: readonly Endpoint[],
    private readonly files: TlsFiles,
    user: User | null,
    private readonly times: CallTimes,
  ) {
    this.#material = readTlsFiles(files);
    this.#connections = endpoints.map(() => null);
    this.#order = new EndpointOrder(endpoints.length);
    this.#authenticator = new Authenticator(user);
  }

  /** Calls sent so far. */
  get callCount(): number {
    return this.#callCount;
  }

  /** The endpoint that answered last. */
  get current(): Endpoint {
    return this.endpoints[this.#order.current]!;
  }

  #connectionTo(index: number): Connection {
    if (this.#isClosed) throw new ConnectError("the client is closed");
    const known = this.#connections[index];
    if (known !== null && known !== undefined && !known.isRetired) return known;
    try {
      // Certificates are renewed while daemons run.
      this.#material = readTlsFiles(this.files);
    } catch {
      // One that is being written; what was read before may still do.
    }
    const made = new Connection(this.endpoints[index]!, this.#material);
    this.#connections[index] = made;
    return made;
  }

  /**
   * Runs `work` at an endpoint, and at the next ones if it fails there with a `StatusError` that
   * another may not have. Where `isRepeatable` is false it is run again only if it was surely not
   * carried out; else `AmbiguousError` is thrown. Throws the signal's reason when that is aborted,
   * and errors of ours.
   */
  async run<T>(
    isRepeatable: boolean,
    signal: AbortSignal,
    work: (attempt: Attempt) => Promise<T>,
  ): Promise<T> {
    const until_ms = performance.now() + this.times.deadline_ms;
    const failures: Failure[] = [];
    const candidates = this.#order.candidates();
    for (const index of candidates) {
      const left_ms = until_ms - performance.now();
      const endpoint = this.endpoints[index]!;
      if (left_ms <= 0) {
        failures.push({ endpoint, why: "not asked, for lack of time", hint: "" });
        continue;
      }
      const isLast = index === candidates.at(-1);
      const part_ms = isLast || !isRepeatable ? left_ms : Math.min(left_ms, this.times.attempt_ms);
      try {
        const result = await this.#runAt(index, isRepeatable, part_ms, signal, work);
        this.#order.succeeded(index);
        return result;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof AmbiguousError) this.#fail(index);
        if (!(error instanceof ElsewhereError)) throw error;
        this.#fail(index);
        failures.push({ endpoint, why: error.message, hint: error.hint });
      }
    }
    throw unavailable(failures);
  }

  #fail(index: number, connection = this.#connections[index]): void {
    this.#order.failed(index);
    connection?.retire();
  }

  async #runAt<T>(
    index: number,
    isRepeatable: boolean,
    timeout_ms: number,
    signal: AbortSignal,
    work: (attempt: Attempt) => Promise<T>,
  ): Promise<T> {
    const until_ms = performance.now() + timeout_ms;
    const left_ms = () => Math.max(1, until_ms - performance.now());
    let isSent = false;
    try {
      const connection = this.#connectionTo(index);
      await connection.ready(Math.min(left_ms(), this.times.connect_ms), signal);
      for (let isRepeated = false;; isRepeated = true) {
        isSent = false;
        const token = await this.#authenticator.token(connection, left_ms(), signal, () => {
          this.#callCount++;
        });
        isSent = true;
        this.#callCount++;
        try {
          return await work({
            connection,
            metadata: metadataWith(token.text),
            timeout_ms: left_ms(),
            isTokenFresh: token.isFresh,
            reportFailure: () => this.#fail(index, connection),
          });
        } catch (error) {
          if (!isTokenRefused(error)) throw error;
          this.#authenticator.forget(token.text);
          if (isRepeated || !this.#authenticator.hasUser) throw refusedError(error);
        }
      }
    } catch (error) {
      signal.throwIfAborted();
      throw this.#judge(error, this.endpoints[index]!, isSent && !isRepeatable, timeout_ms);
    }
  }

  /** What is thrown for a failure at this endpoint; `isWrite`: it must not be done twice. */
  #judge(error: unknown, endpoint: Endpoint, isWrite: boolean, timeout_ms: number): unknown {
    if (error instanceof ConnectError) {
      if (!isWrite) return new ElsewhereError(error.message, error.hint);
      return ambiguous(endpoint, error.message);
    }
    if (!(error instanceof StatusError)) return error;
    const judgement = judgeStatus(error);
    if (judgement.next === "stop") return judgement.error;
    // Of Authenticate itself: the server's own token was refused to it.
    if (judgement.next === "authenticate") return refusedError(error);
    const isLate = error.code === Status.DEADLINE_EXCEEDED;
    const why = isLate ? `no answer in ${seconds(timeout_ms)}` : judgement.why;
    if (isWrite && judgement.isDone === "unknown") return ambiguous(endpoint, why);
    return new ElsewhereError(why, judgement.hint);
  }

  /** Breaks all connections; calls that run on them fail. */
  reconnect(): void {
    for (const connection of this.#connections) connection?.abandon();
  }

  /** Ends all connections; calls that run on them end by their signals. */
  close(): void {
    this.#isClosed = true;
    for (const connection of this.#connections) connection?.retire();
  }
}

function ambiguous(endpoint: Endpoint, why: string): AmbiguousError {
  const text = `etcd at ${endpoint.text}: ${why}, after a write was sent to it: ` +
    "it may have been done or not";
  return new AmbiguousError(text);
}

/** Calls fail at once at a member that has lost its leader, and do not wait for one. */
function metadataWith(token: string | null): Metadata {
  const metadata = new Metadata();
  metadata.set("hasleader", "true");
  if (token !== null) metadata.set("token", token);
  return metadata;
}

function isTokenRefused(error: unknown): error is StatusError {
  return error instanceof StatusError && judgeStatus(error).next === "authenticate";
}

function refusedError(error: unknown): SelvageError {
  const text = errorText(error);
  if (text.includes("user name is empty")) {
    const hint = "Give --etcd-username and --etcd-password.";
    return new SelvageError("unauthorized", "etcd demands a user and a password", { hint });
  }
  return new SelvageError("unauthorized", `etcd refuses the token that it has given: ${text}`);
}
