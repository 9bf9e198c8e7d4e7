/** The connection to one endpoint: its gRPC channel, and what it takes to be rid of it. */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import {
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  connectivityState,
  logVerbosity,
  Metadata,
  type ServiceError,
  setLogVerbosity,
} from "@grpc/grpc-js";
import { connectReason, unresolvedError } from "./connect_reason.ts";
import { makeCredentials, type WatchedCredentials } from "./credentials.ts";
import type { Endpoint } from "./endpoint.ts";
import { type Method, RANGE } from "./methods.ts";
import { withTrueReason } from "./refusal.ts";
import { type Address, channelTarget } from "./resolver.ts";
import { ConnectError, Status, StatusError } from "./status.ts";
import type { TlsMaterial } from "./tls_files.ts";

/** One answer. A page of a list is made smaller where it would be larger. */
export const ANSWER_SIZE_MAX_BYTES = 64 * 1024 * 1024;
/**
 * How often a connection with calls on it is tried, and how long it may take to answer. etcd ends
 * connections that are tried more often than each 5 s, or without calls
 * (--grpc-keepalive-min-time).
 */
const KEEPALIVE_MS = 7_000;
const KEEPALIVE_TIMEOUT_MS = 4_000;
/** A channel that has failed fails calls at once; one that tries again meanwhile has no reason. */
const REASON_MS = 250;
/** Of HTTP/2: what may be under way to us. The default of 64 KB makes large lists slow. */
const WINDOW_BYTES = 1024 * 1024;

const OPTIONS: ChannelOptions = {
  "grpc.keepalive_time_ms": KEEPALIVE_MS,
  "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
  "grpc.keepalive_permit_without_calls": 0,
  "grpc.max_receive_message_length": ANSWER_SIZE_MAX_BYTES,
  "grpc-node.flow_control_window": WINDOW_BYTES,
  // A write must not be sent twice without our knowing.
  "grpc.enable_retries": 0,
  "grpc.service_config_disable_resolution": 1,
  // The proxies of the environment are for the web.
  "grpc.enable_http_proxy": 0,
  // What is closed here must be closed, and not be kept for others.
  "grpc.use_local_subchannel_pool": 1,
  "grpc.enable_channelz": 0,
};

type Bytes = Buffer<ArrayBufferLike>;
const asIs = (bytes: Bytes): Bytes => bytes;

/** A message in the form that gRPC sends. */
export function encoded<Request>(method: Method<Request, unknown>, message: Request): Bytes {
  const bytes = method.request.encode(message).finish();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A stream of messages, each as bytes, and how to send and end it. */
export interface RawStream {
  readonly call: ClientDuplexStream<Bytes, Bytes>;
  /** Says that the stream is not used any more. To be called once. */
  release(): void;
}

export class Connection {
  readonly #client: Client;
  readonly #credentials: WatchedCredentials;
  /** Ends attempts to connect; sockets that are connected are the credentials' to close. */
  readonly #connecting = new AbortController();
  #isResolved = false;
  #callsRunning = 0;
  #isRetired = false;

  /** Connects at the first call of `ready`. */
  constructor(readonly endpoint: Endpoint, material: TlsMaterial) {
    // Its warnings would go to stderr past the log; what matters comes as an error.
    setLogVerbosity(logVerbosity.NONE);
    const { credentials, options } = makeCredentials(endpoint, material);
    this.#credentials = credentials;
    const channel = channelTarget(endpoint, () => this.#findAddresses());
    this.#client = new Client(channel.target, credentials, {
      ...OPTIONS,
      ...options,
      ...channel.options,
    });
  }

  async #findAddresses(): Promise<Address[]> {
    const { host, port } = this.endpoint;
    const { signal } = this.#connecting;
    const hosts = isIP(host) !== 0
      ? [host]
      : (await lookup(host, { all: true })).map(({ address }) => address);
    this.#isResolved = true;
    return hosts.map((host) => ({ host, port, signal }));
  }

  get isRetired(): boolean {
    return this.#isRetired;
  }

  /**
   * Resolves true when there is a connection on which calls can be made, and false when it was
   * retired meanwhile. Throws `ConnectError` that says why there is none, the signal's reason when
   * that is aborted.
   */
  async ready(timeout_ms: number, signal: AbortSignal): Promise<boolean> {
    const channel = this.#client.getChannel();
    const until_ms = performance.now() + timeout_ms;
    for (;;) {
      signal.throwIfAborted();
      if (this.#isRetired) return false;
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY) return true;
      if (state === connectivityState.TRANSIENT_FAILURE) throw await this.#whyNot(signal);
      if (await stateChange(channel, state, until_ms - performance.now(), signal)) continue;
      if (!this.#isResolved) throw unresolvedError(`no answer in ${seconds(timeout_ms)}`);
      throw new ConnectError(`no answer to the connection in ${seconds(timeout_ms)}`);
    }
  }

  /** A channel tells why it has failed only to a call. */
  async #whyNot(signal: AbortSignal): Promise<ConnectError> {
    const error = await this.#request(
      RANGE.path,
      Buffer.alloc(0),
      new Metadata(),
      REASON_MS,
      signal,
    )
      .then(() => null, (error: unknown) => error);
    signal.throwIfAborted();
    const details = error instanceof StatusError
      ? await withTrueReason(error.details)
      : "the connection broke";
    signal.throwIfAborted();
    return connectReason(this.endpoint, details, this.#credentials.error);
  }

  /**
   * Makes one call. Throws `StatusError` where it ends with another status than OK, or after
   * `timeout_ms`; the signal's reason when that is aborted; `ConnectError` if it was retired.
   */
  async unary<Request, Answer>(
    method: Method<Request, Answer>,
    message: Request,
    metadata: Metadata,
    timeout_ms: number,
    signal: AbortSignal,
  ): Promise<Answer> {
    const request = encoded(method, message);
    const answer = await this.#request(method.path, request, metadata, timeout_ms, signal);
    try {
      return method.answer.decode(answer);
    } catch (error) {
      throw new StatusError(Status.INTERNAL, `an answer that cannot be read (${String(error)})`);
    }
  }

  /** `unary` with messages as bytes. */
  #request(
    path: string,
    request: Bytes,
    metadata: Metadata,
    timeout_ms: number,
    signal: AbortSignal,
  ): Promise<Bytes> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      this.#checkInUse();
      const options = { deadline: Date.now() + timeout_ms };
      const onAbort = () => call.cancel();
      const onAnswer = (error: ServiceError | null, answer?: Bytes) => {
        signal.removeEventListener("abort", onAbort);
        this.#release();
        if (signal.aborted) reject(signal.reason);
        else if (error !== null) reject(new StatusError(error.code, error.details));
        else resolve(answer!);
      };
      this.#callsRunning++;
      const call = this.#client
        .makeUnaryRequest(path, asIs, asIs, request, metadata, options, onAnswer);
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** Opens a stream of messages both ways; it has no deadline. Throws `ConnectError` if retired. */
  stream({ path }: Method<unknown, unknown>, metadata: Metadata): RawStream {
    this.#checkInUse();
    this.#callsRunning++;
    const call = this.#client.makeBidiStreamRequest(path, asIs, asIs, metadata);
    return { call, release: () => this.#release() };
  }

  #checkInUse(): void {
    if (this.#isRetired) throw new ConnectError("the connection was closed");
  }

  #release(): void {
    this.#callsRunning--;
    this.#endIfUnused();
  }

  #endIfUnused(): void {
    // A silent peer never closes what it was asked to close.
    if (this.#isRetired && this.#callsRunning === 0) this.#end();
  }

  #end(): void {
    this.#credentials.close();
    this.#connecting.abort();
  }

  /** No new call; what runs on it fails now. */
  abandon(): void {
    this.retire();
    this.#end();
  }

  /** No new call; what runs on it runs on, and then it is closed. */
  retire(): void {
    if (this.#isRetired) return;
    this.#isRetired = true;
    this.#client.close();
    this.#endIfUnused();
  }
}

/** Whether the state changed in time. */
function stateChange(
  channel: ReturnType<Client["getChannel"]>,
  state: connectivityState,
  timeout_ms: number,
  signal: AbortSignal,
): Promise<boolean> {
  return new Promise<boolean>((resolve) => {
    const onAbort = () => resolve(false);
    signal.addEventListener("abort", onAbort, { once: true });
    channel.watchConnectivityState(state, Date.now() + timeout_ms, (error) => {
      signal.removeEventListener("abort", onAbort);
      resolve(error === undefined);
    });
  }).then((changed) => {
    signal.throwIfAborted();
    return changed;
  });
}

/** A time for people. */
export function seconds(time_ms: number): string {
  return `${Number((time_ms / 1000).toFixed(1))} s`;
}
