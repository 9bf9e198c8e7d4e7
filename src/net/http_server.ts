/**
 * The HTTP server of every listener. It accepts, counts and times the connections itself and hands
 * them to Node's HTTP server after the TLS handshake: Bun bounds neither connections nor handshakes
 * (`maxConnections`, `handshakeTimeout`), and times no connection that it is handed.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createNetServer, type Server as NetServer, type Socket } from "node:net";
import { createSecureContext, type SecureVersion, TLSSocket } from "node:tls";
import { getRequestListener } from "@hono/node-server";
import { SelvageError } from "../errors.ts";
import {
  type Connection,
  type ConnectionLimits,
  ConnectionTable,
  sourceOf,
} from "./connection_table.ts";
import { problemResponse, toProblem } from "./problem.ts";
import { Refusals } from "./refusals.ts";
import { requireSameAuthority } from "./request_target.ts";

/** What clients may take of a listener. */
export interface HttpLimits extends ConnectionLimits {
  /** From the connection to the end of the TLS handshake, and then to the end of a header. */
  readonly headerTimeout_ms: number;
  /** From the end of a request's header to the end of its body. */
  readonly requestTimeout_ms: number;
  /** Between the end of an answer and the next request. */
  readonly keepAliveTimeout_ms: number;
  /** How long a client may leave an answer unread. */
  readonly stallTimeout_ms: number;
  /** How long a connection is kept on which every request has been refused. */
  readonly unprovenTimeout_ms: number;
  /** How long the answer to a request without a valid token is held back at most. */
  readonly refusalDelayMax_ms: number;
  readonly headerSizeMax_bytes: number;
  /** How long running requests may go on when the server closes. */
  readonly closeGrace_ms: number;
}

/** The certificate and key of a TLS listener, in PEM. */
export interface ServerCertificate {
  readonly cert: string;
  readonly key: string;
  readonly minVersion: SecureVersion;
}

/** What comes with a request beside what Fetch's `Request` holds. */
export interface RequestContext {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
}

export interface HttpServerOptions {
  readonly fetch: (request: Request, context: RequestContext) => Response | Promise<Response>;
  /** null: without TLS. */
  readonly certificate: ServerCertificate | null;
  readonly limits: HttpLimits;
  /** Whether an answer shows that its client is more than a stranger. */
  readonly provesClient: (response: Response) => boolean;
  /** For errors that no client hears of. */
  readonly onError: (error: unknown) => void;
  /** Takes a line for the log. */
  readonly onWarning: (text: string) => void;
}

/** How full a listener is, for the status. */
export interface ListenerLoad {
  readonly connectionCount: number;
  readonly connectionCountMax: number;
  /** Connections that were closed to make room for others, since the start. */
  readonly shedCount: number;
  /** Connections that were closed at once for lack of room, since the start. */
  readonly refusedCount: number;
  /** Requests that were refused for lack of a valid token, since the start. */
  readonly unauthorizedCount: number;
}

/**
 * How many requests of one connection may wait for their answers. A client may send requests
 * without waiting (pipelining), and the parser makes a request of each that it has read: some
 * megabytes of them would take gigabytes, and hold everything else up for seconds.
 */
const PENDING_COUNT_MAX = 8;

/** How much of a connection's data is parsed at once: at most some 30 requests. */
const PIECE_BYTES = 512;

const TICK_MAX_MS = 1_000;
const CLOSE_POLL_MS = 5;
const KEEP_ALIVE_PROBE_MS = 60_000;

/** The answer to a request that is not HTTP, or too long: Node parses requests, not the app. */
function onClientError(error: Error & { code?: string }, socket: Pick<Socket, "end" | "destroy">) {
  if ((socket as Socket).writable !== true || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  const large = error.code === "HPE_HEADER_OVERFLOW";
  const status = large ? 431 : 400;
  const reason = large ? "header too large" : "not HTTP/1.1";
  const code = large ? "too_large" : "invalid_argument";
  const body = `${JSON.stringify(toProblem(new SelvageError(code, reason), status))}\n`;
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nConnection: close\r\n` +
      `Content-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
      `\r\n${body}`,
    () => socket.destroy(),
  );
}

/** Whether a part of the request's body is still to come. */
function isBodyDue({ headers, complete }: IncomingMessage): boolean {
  const hasBody = headers["transfer-encoding"] !== undefined ||
    Number(headers["content-length"] ?? 0) > 0;
  return hasBody && !complete;
}

/** A connection with what the server needs of it. */
interface Held {
  readonly connection: Connection;
  /** The client's. */
  readonly address: string;
  readonly raw: Socket;
  /** TLS over it; null: not begun, or none is spoken here. */
  tls: TLSSocket | null;
  /** The request that is being answered; null: none. */
  running: RequestContext | null;
  /** Requests that are not answered yet. */
  pendingCount: number;
  /** Whether a request has been answered on it. */
  isAnswered: boolean;
  /** How much had been written when we last looked, and since when it has been so much. */
  writtenBytes: number;
  written_ms: number;
}

export class HttpServer {
  readonly #options: HttpServerOptions;
  readonly #table: ConnectionTable;
  readonly #refusals: Refusals;
  readonly #net: NetServer;
  readonly #http: Server;
  readonly #tls: { readonly secureContext: ReturnType<typeof createSecureContext> } | null;
  readonly #held = new Map<Connection, Held>();
  readonly #bySocket = new WeakMap<object, Held>();
  /** Runs while there are connections: an unused listener wakes the machine for nothing. */
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(options: HttpServerOptions) {
    this.#options = options;
    const { limits, certificate } = options;
    this.#table = new ConnectionTable(limits);
    this.#refusals = new Refusals(options.onWarning, {
      delayMax_ms: limits.refusalDelayMax_ms,
    });
    this.#tls = certificate && { secureContext: createSecureContext({ ...certificate }) };
    const listener = getRequestListener(
      (request, context) => this.#serve(request, context as unknown as RequestContext),
      {
        hostname: "localhost",
        overrideGlobalObjects: false,
        // The adapter's own refusals, such as a Host header that is no authority.
        errorHandler: (error) => {
          options.onError(error);
          return problemResponse(new SelvageError("invalid_argument", "not a valid request"));
        },
      },
    );
    // Its own time-outs are off: it does not keep to them on connections that it is handed.
    this.#http = createServer({
      maxHeaderSize: limits.headerSizeMax_bytes,
      keepAliveTimeout: 0,
      headersTimeout: 0,
      requestTimeout: 0,
    }, (incoming, outgoing) => {
      if (this.#admit(incoming, outgoing)) void listener(incoming, outgoing);
    });
    this.#http.on("clientError", onClientError);
    this.#net = createNetServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
    // A server of Node's that does not listen ends each connection after its first answer.
    Object.defineProperty(this.#http, "listening", { get: () => this.#net.listening });
  }

  /** Listens, or rejects with the system's error. Later errors of the server are only logged. */
  listen(where: { path: string } | { host: string; port: number }): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#net.once("error", reject);
      this.#net.listen(where, () => {
        this.#net.off("error", reject);
        // One connection that could not be accepted does not end the others.
        this.#net.on("error", this.#options.onError);
        resolve();
      });
    });
  }

  /** The port of a TCP listener. */
  get port(): number {
    const address = this.#net.address();
    return address === null || typeof address === "string" ? 0 : address.port;
  }

  get load(): ListenerLoad {
    return {
      connectionCount: this.#table.count,
      connectionCountMax: this.#table.limits.countMax,
      shedCount: this.#table.shedCount,
      refusedCount: this.#table.refusedCount,
      unauthorizedCount: this.#refusals.count,
    };
  }

  /** Frees the address; lets running requests finish within the grace, and ends all others now. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#net.close(() => resolve()));
    const end = (isIdle: (connection: Connection) => boolean) => {
      for (const held of [...this.#held.values()]) {
        if (isIdle(held.connection)) this.#end(held);
      }
    };
    end(({ activity }) => activity === "idle" || activity === "handshake");
    const end_ms = performance.now() + this.#options.limits.closeGrace_ms;
    // Bun says that a server is closed while connections of TLS are still open.
    while (this.#held.size > 0) {
      await new Promise((resolve) => setTimeout(resolve, CLOSE_POLL_MS));
      const isOver = performance.now() >= end_ms;
      // A request that has ended meanwhile leaves its connection idle.
      end(({ activity }) => isOver || activity === "idle");
    }
    await closed;
    this.#refusals.close();
  }

  #end(held: Held): void {
    this.#forget(held);
    // Under Bun the end of the one is not always the end of the other.
    held.tls?.destroy();
    held.raw.destroy();
  }

  #forget(held: Held): void {
    this.#table.delete(held.connection);
    this.#held.delete(held.connection);
    if (this.#held.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #hold(held: Held): void {
    this.#held.set(held.connection, held);
    if (this.#timer !== undefined) return;
    const { headerTimeout_ms } = this.#options.limits;
    const tick_ms = Math.min(TICK_MAX_MS, headerTimeout_ms / 2);
    this.#timer = setInterval(() => this.#closeLate(), tick_ms);
    this.#timer.unref();
  }

  #accept(raw: Socket): void {
    const address = raw.remoteAddress ?? "";
    const connection = this.#table.add(sourceOf(address), performance.now(), () => {
      this.#end(this.#held.get(connection!)!);
    });
    // An error of a connection must not end the process.
    raw.on("error", () => {});
    if (connection === null) {
      raw.destroy();
      return;
    }
    const held: Held = {
      connection,
      address,
      raw,
      tls: null,
      running: null,
      pendingCount: 0,
      isAnswered: false,
      writtenBytes: 0,
      written_ms: 0,
    };
    this.#hold(held);
    raw.once("close", () => this.#end(held));
    raw.setNoDelay(true);
    // Notices a watching client whose host is gone.
    raw.setKeepAlive(true, KEEP_ALIVE_PROBE_MS);
    if (this.#tls === null) this.#hand(held, raw);
    else this.#shakeHands(held, this.#tls);
  }

  #shakeHands(held: Held, tls: { secureContext: ReturnType<typeof createSecureContext> }): void {
    const socket = new TLSSocket(held.raw, {
      isServer: true,
      ...tls,
      ALPNProtocols: ["http/1.1"],
    });
    held.tls = socket;
    socket.on("error", () => this.#end(held));
    socket.once("close", () => this.#end(held));
    socket.once("secure", () => {
      if (this.#held.has(held.connection)) this.#hand(held, socket);
    });
  }

  #hand(held: Held, socket: Socket): void {
    this.#bySocket.set(socket, held);
    this.#table.setActivity(held.connection, "idle", performance.now());
    this.#http.emit("connection", socket);
    this.#parseInPieces(held, socket);
  }

  /** The parser cannot be stopped within a piece; a connection that was ended gets no other. */
  #parseInPieces(held: Held, socket: Socket): void {
    const parsers = socket.listeners("data");
    socket.removeAllListeners("data");
    socket.on("data", (data: Buffer<ArrayBuffer>) => {
      for (let at = 0; at < data.length && this.#held.has(held.connection); at += PIECE_BYTES) {
        const piece = data.subarray(at, at + PIECE_BYTES);
        for (const parse of parsers) parse.call(socket, piece);
      }
    });
  }

  /** Counts a request; false: its connection has sent too many, or is closed already. */
  #admit({ socket }: IncomingMessage, outgoing: ServerResponse): boolean {
    const held = this.#bySocket.get(socket);
    if (held === undefined || !this.#held.has(held.connection)) return false;
    if (held.pendingCount >= PENDING_COUNT_MAX) {
      this.#end(held);
      return false;
    }
    held.pendingCount++;
    outgoing.once("close", () => held.pendingCount--);
    return true;
  }

  async #serve(request: Request, context: RequestContext): Promise<Response> {
    const { incoming, outgoing } = context;
    const held = this.#bySocket.get(incoming.socket);
    if (held === undefined) {
      return problemResponse(new SelvageError("unavailable", "the connection is closed"));
    }
    held.running = context;
    held.written_ms = performance.now();
    this.#table.setActivity(held.connection, "request", held.written_ms);
    outgoing.once("close", () => {
      held.isAnswered = true;
      // Of requests that were sent without waiting for answers, the last one counts.
      if (held.running !== context) return;
      held.running = null;
      this.#table.setActivity(held.connection, "idle", performance.now());
    });
    const response = await this.#answer(request, context);
    if (this.#options.provesClient(response)) this.#table.prove(held.connection);
    if (response.status === 401) await this.#refusals.refuse(held.address);
    return response;
  }

  async #answer(request: Request, context: RequestContext): Promise<Response> {
    const { url = "", headers } = context.incoming;
    try {
      requireSameAuthority(url, headers.host ?? "");
    } catch (error) {
      return problemResponse(error);
    }
    return await this.#options.fetch(request, context);
  }

  /** Whether the client has left what we sent it unread for too long. */
  #isStalled(held: Held, now_ms: number): boolean {
    const { bytesWritten, writableLength } = held.raw;
    const pendingBytes = writableLength + (held.running?.outgoing.writableLength ?? 0);
    if (pendingBytes === 0 || bytesWritten !== held.writtenBytes) {
      held.writtenBytes = bytesWritten;
      held.written_ms = now_ms;
    }
    return now_ms - held.written_ms > this.#options.limits.stallTimeout_ms;
  }

  #isLate(held: Held, now_ms: number): boolean {
    const { limits } = this.#options;
    const { activity, since_ms, accepted_ms, isProven } = held.connection;
    const passed_ms = now_ms - since_ms;
    if (activity === "handshake") return passed_ms > limits.headerTimeout_ms;
    if (activity === "request") {
      if (isBodyDue(held.running!.incoming)) return passed_ms > limits.requestTimeout_ms;
      return this.#isStalled(held, now_ms);
    }
    if (!isProven && now_ms - accepted_ms > limits.unprovenTimeout_ms) return true;
    return passed_ms > (held.isAnswered ? limits.keepAliveTimeout_ms : limits.headerTimeout_ms);
  }

  #closeLate(): void {
    const now_ms = performance.now();
    for (const held of [...this.#held.values()]) {
      if (this.#isLate(held, now_ms)) this.#end(held);
    }
  }
}
