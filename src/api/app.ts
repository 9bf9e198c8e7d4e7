/** The routes of the HTTP API. What may be asked, and what is answered; not who listens where. */
import { type Context, Hono, type MiddlewareHandler } from "hono";
import { validator } from "hono/validator";
import type { Status } from "../agent/status.ts";
import { errorText, isStoreFault, SelvageError } from "../errors.ts";
import { type Lease, type LeaseAttributes, leaseKey, parseLeaseKey } from "../lease/lease.ts";
import { logger } from "../log.ts";
import { jsonBody } from "../net/json_body.ts";
import { problemResponse } from "../net/problem.ts";
import { configQuery, configSchema, forceQuery, reservationSchema, tokenSchema } from "./body.ts";
import type { AgentControl } from "./control.ts";
import { guard, type GuardedEnvironment, type GuardOptions, READING } from "./guard.ts";
import { kept } from "./kept.ts";
import {
  configView,
  type LeaseView,
  leaseView,
  type ReservationView,
  reservationView,
} from "./views.ts";
import { watchLines } from "./watch_lines.ts";
import { WATCH_MEDIA_TYPE, WatcherPool, watchStream } from "./watch_stream.ts";

/** How long a request waits for the store. */
export const STORE_TIMEOUT_MS = 10_000;
const AWAY_TIMEOUT_MS = 1_000;

export interface ApiOptions {
  /** null: everything is allowed, as on the Unix socket. */
  readonly guard: GuardOptions | null;
  /** Ends every watch stream. */
  readonly shutdown: AbortSignal;
  readonly watchers: WatcherPool;
  readonly storeTimeout_ms?: number;
  readonly stall_ms?: number;
}

/** Set on every answer; an API's answers are never pages, never cached, never sniffed. */
const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
};

const securityHeaders: MiddlewareHandler = async (context, next) => {
  await next();
  for (const [name, value] of Object.entries(SECURITY_HEADERS)) {
    context.res.headers.set(name, value);
  }
};

/** The result of something that goes on without us when the signal is aborted. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    work.then(resolve, reject);
  });
}

/** Runs a call on the store, ended by the client's leaving or by the timeout. */
async function withDeadline<T>(
  context: Context,
  timeout_ms: number,
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const timeout = AbortSignal.timeout(timeout_ms);
  try {
    return await call(AbortSignal.any([context.req.raw.signal, timeout]));
  } catch (error) {
    if (!timeout.aborted || error instanceof SelvageError) throw error;
    throw new SelvageError("unavailable", `the store did not answer within ${timeout_ms} ms`, {
      hint: "selvage status shows how the store does.",
    });
  }
}

/** The methods that `path` has, for the Allow header; empty if there is no such path. */
function methodsOf(app: Hono, path: string): string[] {
  const methods = new Set<string>();
  for (const route of app.routes) {
    if (route.method === "ALL") continue;
    const pattern = new RegExp(`^${route.path.replace(/:[^/]+/g, "[^/]+")}$`);
    if (!pattern.test(path)) continue;
    methods.add(route.method);
    if (route.method === "GET") methods.add("HEAD");
  }
  return [...methods].sort();
}

function notFound(app: Hono, context: Context): Response {
  const { method, path } = context.req;
  const methods = methodsOf(app, path);
  if (methods.length === 0) {
    return problemResponse(new SelvageError("not_found", `no such path: ${path}`));
  }
  const response = problemResponse(
    new SelvageError("method_not_allowed", `${path} does not support the method ${method}`, {
      hint: `It supports ${methods.join(", ")}.`,
    }),
  );
  response.headers.set("allow", methods.join(", "));
  return response;
}

function onError(error: unknown, context: Context): Response {
  // Nobody reads the answer, and a client that goes away is no defect of ours.
  const isGone = context.req.raw.signal.aborted;
  if (isGone) return problemResponse(new SelvageError("unavailable", "the client went away"));
  if (!(error instanceof SelvageError) || error.code === "internal") {
    const { method, path } = context.req;
    logger("api").error("{method} {path} failed: {error}", {
      method,
      path,
      error: error instanceof Error ? error.stack ?? error.message : errorText(error),
    });
  }
  return problemResponse(error);
}

/**
 * How long an answer is reused over TCP, where every client may ask as often as it likes. The Unix
 * socket is only for its owner, and its answers are always new.
 */
const TCP_FRESH_MS = 1_000;

/** What is read for many requests at once. */
function sharedReads(control: AgentControl, { guard }: ApiOptions) {
  const fresh_ms = guard === null ? 0 : TCP_FRESH_MS;
  return {
    status: kept(() => control.status(), fresh_ms),
    config: kept(async () => configView(await control.config()), fresh_ms),
    leases: kept(() => control.store.list(), fresh_ms),
  };
}

type SharedReads = ReturnType<typeof sharedReads>;

/** The leases; where the store does not say when they end, that of this host's own all the same. */
function leaseViews(leases: readonly Lease[], own: Status["lease"]): LeaseView[] {
  const views = leases.map(leaseView);
  // One that was lost is another's by now, or nobody's.
  if (own === null || own.expiry_ms === null || own.lostSince_ms !== null) return views;
  const { expiry_ms } = own;
  const subnets = own.subnets.join();
  return views.map((view) =>
    view.expiry_ms === undefined && view.subnets.join() === subnets ? { ...view, expiry_ms } : view
  );
}

/** What `read` gives; where the store cannot be asked, what this host knew last, and why so. */
async function leasesView(control: AgentControl, read: () => Promise<Lease[]>) {
  const view = (leases: readonly Lease[], storeError: string | null) => ({
    leases: leaseViews(leases, control.lease()),
    storeError,
    unreadableCount: control.store.state().unreadableCount,
    unreadable: control.store.state().unreadable,
  });
  try {
    return view(await read(), null);
  } catch (error) {
    const known = isStoreFault(error) ? control.knownLeases() : null;
    if (known === null) throw error;
    return view(known, errorText(error));
  }
}

/** A signal that is aborted when the token is revoked; `stop` stops the watching of the token. */
function untilRevoked(bearer: string | undefined, guard: GuardOptions | null) {
  const revoked = new AbortController();
  const stop = bearer === undefined || guard === null
    ? () => {}
    : guard.onRevoked(bearer, () => revoked.abort());
  return { signal: revoked.signal, stop };
}

/** Reading: health, status, configuration, leases and their watch. */
function readingRoutes(control: AgentControl, reads: SharedReads, options: ApiOptions) {
  const timeout_ms = options.storeTimeout_ms ?? STORE_TIMEOUT_MS;
  return new Hono<GuardedEnvironment>()
    .get("/healthz", (context) => context.json({ running: true }))
    .get("/readyz", (context) => {
      const readiness = control.readiness();
      return context.json(readiness, readiness.ready ? 200 : 503);
    })
    .get("/v1/status", async (context) => context.json(await reads.status()))
    .get("/v1/config", async (context) => context.json(await reads.config()))
    .get("/v1/leases", async (context) => {
      // One that is known to be away is not waited for so long.
      const isAway = control.knownLeases() !== null && !control.store.state().connected;
      const deadline_ms = isAway ? Math.min(timeout_ms, AWAY_TIMEOUT_MS) : timeout_ms;
      const read = () => {
        return withDeadline(context, deadline_ms, (signal) => untilAborted(reads.leases(), signal));
      };
      return context.json(await leasesView(control, read));
    })
    .get("/v1/leases/watch", (context) => {
      context.header("content-type", WATCH_MEDIA_TYPE);
      if (context.req.method === "HEAD") return context.body(null);
      const { store } = control;
      const giveBack = options.watchers.take();
      const revoked = untilRevoked(context.get("bearer"), options.guard);
      const stream = watchStream((signal) => watchLines(store, signal), {
        signals: [options.shutdown, context.req.raw.signal, revoked.signal],
        onEnd() {
          revoked.stop();
          giveBack();
        },
        ...(options.stall_ms === undefined ? {} : { stall_ms: options.stall_ms }),
      });
      return context.body(stream);
    });
}

/** Changing: the configuration, reservations, revocations, tokens. */
function changingRoutes(control: AgentControl, options: ApiOptions) {
  const timeout_ms = options.storeTimeout_ms ?? STORE_TIMEOUT_MS;
  return new Hono()
    .put("/v1/config", jsonBody(configSchema), validator("query", configQuery), async (context) => {
      const { force, dryRun } = context.req.valid("query");
      const text = JSON.stringify(context.req.valid("json"));
      await control.setConfig(text, { isForced: force === "true", isDryRun: dryRun === "true" });
      return context.json(configView(await control.config()));
    })
    .post(
      "/v1/leases",
      jsonBody(reservationSchema),
      validator("query", forceQuery),
      async (context) => {
        const { subnets, publicAddresses, backendType } = context.req.valid("json");
        const isForced = context.req.valid("query").force === "true";
        const type = backendType ?? (await control.config()).backend.type;
        const attributes: LeaseAttributes = {
          publicAddresses,
          backendType: type,
          backendData: {},
          awaitsHost: true,
        };
        const made: ReservationView = await withDeadline(context, timeout_ms, async (signal) => {
          const { store } = control;
          return isForced
            ? reservationView(await store.reserveByForce(subnets, attributes, signal))
            : leaseView(await store.reserve(subnets, attributes, signal));
        });
        return context.json(made, 201);
      },
    )
    .delete("/v1/leases/:key", async (context) => {
      const key = leaseKey(parseLeaseKey(context.req.param("key")));
      await withDeadline(context, timeout_ms, (signal) => control.store.revoke(key, signal));
      return context.body(null, 204);
    })
    .get("/v1/tokens", async (context) => {
      const { tokens } = control;
      const { note, keepsRegistry } = tokens;
      return context.json({ tokens: await tokens.list(), note, keepsRegistry });
    })
    .post("/v1/tokens", jsonBody(tokenSchema), async (context) => {
      const { scope, description, address = [] } = context.req.valid("json");
      const request = { scope, description, addresses: [address].flat() };
      return context.json(await control.tokens.create(request), 201);
    })
    .delete("/v1/tokens/:id", async (context) => {
      await control.tokens.revoke(context.req.param("id"));
      return context.body(null, 204);
    });
}

/** What only the Unix socket may do: a backup holds the registry's private key. */
function localRoutes(control: AgentControl, { guard }: ApiOptions) {
  return new Hono()
    .get("/v1/registry/backup", async (context) => {
      if (guard !== null) {
        throw new SelvageError("forbidden", "a backup holds secrets: it is not sent over TCP", {
          hint: "Ask on the registry's host, over the Unix socket: selvage registry backup FILE.",
        });
      }
      return context.body(await control.backUpRegistry(), 200, {
        "content-type": "application/json",
      });
    });
}

/**
 * The API over `control`. Every error leaves as `application/problem+json`; none leaves as a
 * rejection. Its type is what Hono's typed client is made from.
 */
export function createApi(control: AgentControl, options: ApiOptions) {
  const app = new Hono();
  const reads = sharedReads(control, options);
  app.use(securityHeaders);
  if (options.guard !== null) app.use(guard(options.guard));
  app.use(async (context, next) => {
    await next();
    if (READING.has(context.req.method)) return;
    // A client that has changed something sees the change in its next answer.
    for (const read of Object.values(reads)) read.forget();
  });
  app.onError(onError);
  app.notFound((context) => notFound(app, context));
  return app
    .route("/", readingRoutes(control, reads, options))
    .route("/", changingRoutes(control, options))
    .route("/", localRoutes(control, options));
}

/** For `hc<ApiType>`. */
export type ApiType = ReturnType<typeof createApi>;
