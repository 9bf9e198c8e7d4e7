/**
 * `fetch` on node:http and node:https, for what the global one does not do alike in both
 * runtimes: Unix sockets, a pinned certificate authority, a stream that may be silent for ever.
 *
 * It follows no redirect, keeps no cookie, decodes no compression and reads no proxy settings:
 * it talks to our own servers only.
 */
import { type ClientRequest, type IncomingMessage, request as httpRequest } from "node:http";
import { type Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { Agent as HttpAgent } from "node:http";
import { errorText, SelvageError } from "../errors.ts";

/** How to connect; the URL says where to, unless a socket is given. */
export interface FetchOptions {
  /** Connect to this Unix socket; the URL's host then only fills the Host header. */
  readonly socketPath?: string;
  /** Verify the server against these certificates alone, by this name. */
  readonly tls?: { readonly ca: string; readonly servername: string };
  /** Keeps connections alive; the caller destroys it. Without one, each call connects anew. */
  readonly agent?: HttpAgent | HttpsAgent;
}

/** How a failed connection is worded; the system's error is the cause, with its `code`. */
function connectError(error: unknown, where: string): SelvageError {
  const code = (error as { code?: unknown }).code;
  const reasons: Record<string, string> = {
    ECONNREFUSED: "connection refused",
    ENOENT: "no such socket",
    EACCES: "permission denied",
    ECONNRESET: "the connection was reset",
    ETIMEDOUT: "the connection timed out",
    EHOSTUNREACH: "no route to host",
    ENETUNREACH: "network unreachable",
    ENOTFOUND: "the name cannot be resolved",
    EAI_AGAIN: "the name cannot be resolved",
  };
  const reason = typeof code === "string" ? reasons[code] : undefined;
  return new SelvageError("unavailable", `${where}: ${reason ?? errorText(error)}`, {
    cause: error,
  });
}

/** The response's body as a web stream that pauses the socket while nobody reads. */
function bodyStream(
  message: IncomingMessage,
  request: ClientRequest,
  signal: AbortSignal,
  where: string,
): ReadableStream<Uint8Array> {
  let done = false;
  let onAbort = () => {};
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const finish = (act: () => void) => {
        if (done) return;
        done = true;
        signal.removeEventListener("abort", onAbort);
        act();
      };
      onAbort = () => {
        finish(() => controller.error(signal.reason));
        request.destroy();
      };
      signal.addEventListener("abort", onAbort);
      if (signal.aborted) return onAbort();
      message.on("data", (chunk: Uint8Array) => {
        if (done) return;
        controller.enqueue(new Uint8Array(chunk));
        if ((controller.desiredSize ?? 0) <= 0) message.pause();
      });
      message.on("end", () => finish(() => controller.close()));
      message.on("error", (error) => finish(() => controller.error(connectError(error, where))));
      message.on("close", () => {
        const cut = new SelvageError("unavailable", `${where}: the connection was closed`);
        finish(() => controller.error(cut));
      });
      message.pause();
    },
    pull() {
      message.resume();
    },
    cancel() {
      done = true;
      signal.removeEventListener("abort", onAbort);
      request.destroy();
    },
  });
}

function toResponse(
  message: IncomingMessage,
  request: ClientRequest,
  signal: AbortSignal,
  method: string,
  where: string,
): Response {
  const headers = new Headers();
  for (const [name, value] of Object.entries(message.headers)) {
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) headers.append(name, one);
  }
  const status = message.statusCode ?? 0;
  // The Fetch standard allows no body with these ("null body status").
  const empty = method === "HEAD" || status === 204 || status === 205 || status === 304;
  if (empty) message.resume();
  const body = empty ? null : bodyStream(message, request, signal, where);
  return new Response(body, { status, headers });
}

/**
 * A `fetch` with these options. It rejects with `unavailable` when there is no connection (the
 * system's error is its `cause`) and with the signal's reason when that is aborted, before or
 * while the body is read. Request bodies are sent whole.
 */
export function createFetch(options: FetchOptions = {}): typeof fetch {
  return async (input: URL | Request | string, init?: RequestInit): Promise<Response> => {
    const request = new Request(input, init);
    // The signal as given: a Request's own follows it only while the Request is not collected.
    const signal = init?.signal ?? request.signal;
    signal.throwIfAborted();
    const url = new URL(request.url);
    const body = request.body === null ? null : new Uint8Array(await request.arrayBuffer());
    const headers: Record<string, string> = Object.fromEntries(request.headers);
    if (body !== null) headers["content-length"] = String(body.byteLength);
    const where = options.socketPath ?? url.host;
    return await new Promise<Response>((resolve, reject) => {
      const start = url.protocol === "https:" ? httpsRequest : httpRequest;
      const outgoing = start({
        method: request.method,
        path: url.pathname + url.search,
        headers: { host: url.host, ...headers },
        ...(options.socketPath === undefined
          ? { host: url.hostname.replace(/^\[|\]$/g, ""), port: url.port || undefined }
          : { socketPath: options.socketPath }),
        ...(options.agent === undefined ? { agent: false } : { agent: options.agent }),
        ...options.tls,
        // Also against NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment.
        rejectUnauthorized: true,
      });
      const onAbort = () => {
        reject(signal.reason);
        outgoing.destroy();
      };
      signal.addEventListener("abort", onAbort, { once: true });
      outgoing.on("error", (error) => {
        signal.removeEventListener("abort", onAbort);
        reject(connectError(error, where));
      });
      outgoing.on("response", (message) => {
        signal.removeEventListener("abort", onAbort);
        resolve(toResponse(message, outgoing, signal, request.method, where));
      });
      outgoing.end(body ?? undefined);
    });
  };
}
