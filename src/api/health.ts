/**
 * flannel's health server: `/healthz` and `/readyz` for probes that cannot hold a token, with
 * nothing in the answers but yes or no. It may listen anywhere, so it serves nothing else.
 */
import type { AgentControl } from "./control.ts";
import { type ApiListener, LISTENER_LIMITS, listenPlain } from "./listener.ts";
import type { HostPort } from "../net/host_port.ts";

/** What one request gets. */
function answer(control: AgentControl, request: Request): Response {
  const reply = (status: number, text: string, headers: Record<string, string> = {}) =>
    new Response(request.method === "HEAD" ? null : `${text}\n`, {
      status,
      headers: { "content-type": "text/plain", "cache-control": "no-store", ...headers },
    });
  const { pathname } = new URL(request.url);
  if (pathname !== "/healthz" && pathname !== "/readyz") return reply(404, "not found");
  if (request.method !== "GET" && request.method !== "HEAD") {
    return reply(405, "method not allowed", { allow: "GET, HEAD" });
  }
  if (pathname === "/healthz") return reply(200, "ok");
  return control.readiness().ready ? reply(200, "ok") : reply(503, "not ready");
}

/** Serves the two paths over plain HTTP. Throws as `listenTcp`, naming `--healthz-port`. */
export function listenHealth(control: AgentControl, where: HostPort): Promise<ApiListener> {
  return listenPlain((request) => answer(control, request), where, {
    what: "health address",
    hint: "Choose another with --healthz-ip and --healthz-port.",
    // Probes come one by one.
    limits: { ...LISTENER_LIMITS, countMax: 16, unprovenCountMax: 16, unprovenPerSourceMax: 8 },
  });
}
