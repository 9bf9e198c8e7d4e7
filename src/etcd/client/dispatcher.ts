/** Makes a call at one endpoint after the other, until one answers. */
import { Metadata } from "@grpc/grpc-js";
import { errorText, SelvageError } from "../../errors.ts";
import { Authenticator, type Token, type User } from "./authentication.ts";
import { Connection, seconds } from "./connection.ts";
import type { Endpoint } from "./endpoint.ts";
import { EndpointOrder } from "./endpoint_order.ts";
import { AmbiguousError } from "./error.ts";
import { RangeRequest } from "./generated/rpc.ts";
import { RANGE } from "./methods.ts";
import { ConnectError, judgeStatus, Status, StatusError } from "./status.ts";
import { readTlsFiles, type TlsFiles, type TlsMaterial } from "./tls_files.ts";

/** Bounds in time. */
export interface CallTimes {
  /** For a call as a whole, over all endpoints. */
  readonly deadline_ms: number;
  /** For what may be repeated, at one endpoint where there are others; and for a probe. */
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
  #material: TlsMaterial;
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
   * and errors of ours, which are answers: the endpoint is kept.
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
        return await this.#runAt(index, isRepeatable, part_ms, signal, work);
      } catch (error) {
        if (!(error instanceof ElsewhereError)) throw error;
        failures.push({ endpoint, why: error.message, hint: error.hint });
      }
    }
    throw unavailable(failures);
  }

  /** The endpoint is avoided for a while; on this connection nothing new is sent. */
  #fail(index: number, connection: Connection | null): void {
    this.#order.failed(index);
    connection?.retire();
  }

  /** `run` at one endpoint; throws `ElsewhereError` where the next one is to be tried. */
  async #runAt<T>(
    index: number,
    isRepeatable: boolean,
    timeout_ms: number,
    signal: AbortSignal,
    work: (attempt: Attempt) => Promise<T>,
  ): Promise<T> {
    const until_ms = performance.now() + timeout_ms;
    const left_ms = () => Math.max(1, until_ms - performance.now());
    let connection: Connection | null = null;
    let isSent = false;
    try {
      for (let isRepeated = false;;) {
        connection = this.#connectionTo(index);
        isSent = false;
        // What another call has given up meanwhile says nothing of this one.
        if (!await connection.ready(Math.min(left_ms(), this.times.connect_ms), signal)) continue;
        const token = await this.#authenticator.token(connection, left_ms(), signal, () => {
          this.#callCount++;
        });
        if (connection.isRetired) continue;
        isSent = true;
        this.#callCount++;
        try {
          const result = await work(this.#attempt(index, connection, token, left_ms()));
          this.#order.succeeded(index);
          return result;
        } catch (error) {
          if (!isTokenRefused(error)) throw error;
          this.#authenticator.forget(token.text);
          if (isRepeated || !this.#authenticator.hasUser) throw refusedError(error);
          isRepeated = true;
        }
      }
    } catch (error) {
      signal.throwIfAborted();
      const judged = this.#judge(
        error,
        this.endpoints[index]!,
        isSent && !isRepeatable,
        timeout_ms,
      );
      const hasFailed = judged instanceof ElsewhereError || judged instanceof AmbiguousError;
      if (hasFailed) this.#fail(index, connection);
      else if (judged instanceof SelvageError) this.#order.succeeded(index);
      throw judged;
    }
  }

  #attempt(index: number, connection: Connection, token: Token, timeout_ms: number): Attempt {
    return {
      connection,
      metadata: metadataWith(token.text),
      timeout_ms,
      isTokenFresh: token.isFresh,
      reportFailure: () => this.#fail(index, connection),
    };
  }

  /**
   * Asks for anything at all on this connection. Returns if there is an answer, of whatever kind;
   * throws `StatusError` or `ConnectError` if not, and the signal's reason.
   */
  async probe(connection: Connection, signal: AbortSignal): Promise<void> {
    const request = RangeRequest.fromPartial({ key: new Uint8Array([0]), limit: 1n });
    this.#callCount++;
    try {
      await connection.unary(RANGE, request, metadataWith(null), this.times.attempt_ms, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof StatusError) || isSilence(error)) throw error;
    }
  }

  /** What is thrown for a failure at this endpoint; `isWrite`: it must not be done twice. */
  #judge(error: unknown, endpoint: Endpoint, isWrite: boolean, timeout_ms: number): unknown {
    if (error instanceof ConnectError) return new ElsewhereError(error.message, error.hint);
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

  /** As `Etcd.tryElsewhere`. Connections are kept: it may have its turn again soon. */
  tryElsewhere(): boolean {
    this.#order.passOver();
    return this.endpoints.length > 1;
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

/** Whether nobody answers, or one who can answer nothing. */
function isSilence({ code }: StatusError): boolean {
  return code === Status.UNAVAILABLE || code === Status.DEADLINE_EXCEEDED;
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
