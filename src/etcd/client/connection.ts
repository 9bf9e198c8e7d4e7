/** The connection to one endpoint: its gRPC channel, and what it takes to be rid of it. */
import {
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  connectivityState,
  logVerbosity,
  Metadata,
  setLogVerbosity,
} from "@grpc/grpc-js";
import { connectReason } from "./connect_reason.ts";
import { makeCredentials, type readTlsFiles, type WatchedCredentials } from "./credentials.ts";
import type { Endpoint } from "./endpoint.ts";
import { type Method, RANGE } from "./methods.ts";
import { ConnectError, StatusError } from "./status.ts";

/** One answer. A page of a list is made smaller where it would be larger. */
export const ANSWER_SIZE_MAX_BYTES = 64 * 1024 * 1024;
/**
 * How often a connection with calls on it is tried, and how long it may take to answer. etcd ends
 * connections that are tried more often than each 5 s, or without calls
 * (--grpc-keepalive-min-time).
 */
const KEEPALIVE_MS = 7_000;
const KEEPALIVE_TIMEOUT_MS = 4_000;
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

function target({ host, port }: Endpoint): string {
  return host.includes(":") ? `ipv6:[${host}]:${port}` : `dns:///${host}:${port}`;
}

export class Connection {
  readonly #client: Client;
  readonly #credentials: WatchedCredentials;
  readonly #hasCertificate: boolean;
  #callsRunning = 0;
  #isRetired = false;

  /** Connects at the first call of `ready`. */
  constructor(readonly endpoint: Endpoint, material: ReturnType<typeof readTlsFiles>) {
    // Its warnings would go to stderr past the log; what matters comes as an error.
    setLogVerbosity(logVerbosity.NONE);
    const { credentials, options } = makeCredentials(endpoint, material);
    this.#credentials = credentials;
    this.#hasCertificate = material.certificate !== null;
    this.#client = new Client(target(endpoint), credentials, { ...OPTIONS, ...options });
  }

  get isRetired(): boolean {
    return this.#isRetired;
  }

  /**
   * Resolves when there is a connection on which calls can be made. Throws `ConnectError` that
   * says why there is none, the signal's reason when that is aborted.
   */
  async ready(timeout_ms: number, signal: AbortSignal): Promise<void> {
    const channel = this.#client.getChannel();
    const until_ms = Date.now() + timeout_ms;
    for (;;) {
      signal.throwIfAborted();
      const state = this.#isRetired
        ? connectivityState.SHUTDOWN
        : channel.getConnectivityState(true);
      if (state === connectivityState.READY) return;
      if (state === connectivityState.SHUTDOWN) throw new ConnectError("the connection was closed");
      if (state === connectivityState.TRANSIENT_FAILURE) throw await this.#whyNot(signal);
      if (!await stateChange(channel, state, until_ms, signal)) {
        throw new ConnectError(`no answer to the connection in ${seconds(timeout_ms)}`);
      }
    }
  }

  /** A channel tells why it has failed only to a call. */
  async #whyNot(signal: AbortSignal): Promise<ConnectError> {
    const details = await new Promise<string>((resolve) => {
      const options = { deadline: Date.now() + 250 };
      const { path } = RANGE;
      const request = Buffer.alloc(0);
      this.#client.makeUnaryRequest(path, asIs, asIs, request, new Metadata(), options, (error) => {
        resolve(error?.details ?? "the connection broke");
      });
    });
    signal.throwIfAborted();
    const { error } = this.#credentials;
    return connectReason(this.endpoint, details, error, this.#hasCertificate);
  }

  /**
   * Makes one call. Throws `StatusError` where it ends with another status than OK, or after
   * `timeout_ms`; the signal's reason when that is aborted.
   */
  unary<Request, Answer>(
    method: Method<Request, Answer>,
    message: Request,
    metadata: Metadata,
    timeout_ms: number,
    signal: AbortSignal,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const onAbort = () => call.cancel();
      this.#callsRunning++;
      const call = this.#client.makeUnaryRequest(
        method.path,
        asIs,
        asIs,
        encoded(method, message),
        metadata,
        { deadline: Date.now() + timeout_ms },
        (error, answer) => {
          signal.removeEventListener("abort", onAbort);
          this.#release();
          if (signal.aborted) return reject(signal.reason);
          if (error !== null) return reject(new StatusError(error.code, error.details));
          try {
            resolve(method.answer.decode(answer!));
          } catch (cause) {
            reject(new ConnectError(`an answer that cannot be read (${String(cause)})`));
          }
        },
      );
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** Opens a stream of messages both ways; it has no deadline. */
  stream({ path }: Method<unknown, unknown>, metadata: Metadata): RawStream {
    this.#callsRunning++;
    const call = this.#client.makeBidiStreamRequest(path, asIs, asIs, metadata);
    return { call, release: () => this.#release() };
  }

  #release(): void {
    this.#callsRunning--;
    this.#closeIfUnused();
  }

  #closeIfUnused(): void {
    // A silent peer never closes what it was asked to close.
    if (this.#isRetired && this.#callsRunning === 0) this.#credentials.destroySockets();
  }

  /** No new call; what runs on it fails now. */
  abandon(): void {
    this.retire();
    this.#credentials.destroySockets();
  }

  /** No new call; what runs on it runs on, and then it is closed. */
  retire(): void {
    if (this.#isRetired) return;
    this.#isRetired = true;
    this.#client.close();
    this.#closeIfUnused();
  }
}

/** Whether the state changed in time. */
function stateChange(
  channel: ReturnType<Client["getChannel"]>,
  state: connectivityState,
  until_ms: number,
  signal: AbortSignal,
): Promise<boolean> {
  return new Promise<boolean>((resolve) => {
    const onAbort = () => resolve(false);
    signal.addEventListener("abort", onAbort, { once: true });
    channel.watchConnectivityState(state, until_ms, (error) => {
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
