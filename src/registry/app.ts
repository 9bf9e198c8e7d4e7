/** The registry's endpoints: a lease store over HTTP, for the hosts that hold a join token. */
import { Hono } from "hono";
import { bearerToken } from "../net/bearer_token.ts";
import { jsonBody } from "../net/json_body.ts";
import { formatNetworkConfig } from "../config/parse_network_config.ts";
import { SelvageError } from "../errors.ts";
import { parseLeaseKey } from "../lease/lease.ts";
import { readLeaseValue } from "../lease/lease_value.ts";
import { IpAddress, IpPrefix } from "../net/ip.ts";
import { problemResponse } from "../net/problem.ts";
import type { EmbeddedStore } from "../store/embedded_store.ts";
import type { TokenStore } from "./tokens.ts";
import type { WatchStreams } from "./watch_streams.ts";
import {
  acquireBody,
  leaseBody,
  REGISTRY_PATH,
  renewBody,
  reserveBody,
  revokeBody,
  toWireLease,
} from "./wire.ts";

/** What the HTTP listener hands to the app with each request. */
interface Environment {
  Bindings: { readonly outgoing: { destroy(): void } };
  Variables: { tokenId: string };
}

/** What the app serves, and what guards it; all stay the caller's. */
export interface RegistryAppOptions {
  readonly store: EmbeddedStore;
  readonly tokens: TokenStore;
  readonly streams: WatchStreams;
}

/** The id of the request's token. Throws `unauthorized`, or `forbidden` for one of the API's. */
function requireJoinToken(tokens: TokenStore, header: string | undefined): string {
  const bearer = bearerToken(header);
  const token = bearer === null ? null : tokens.identify(bearer);
  if (token === null) {
    const reason = bearer === null ? "no token was given" : "the token is unknown or was revoked";
    throw new SelvageError("unauthorized", `the registry refused the request: ${reason}`, {
      hint: "Make a join string on the registry's host: selvage token create.",
    });
  }
  if (token.scope !== "join") {
    throw new SelvageError("forbidden", `the token ${token.id} is not one to join with`, {
      hint: "Make a join string on the registry's host: selvage token create.",
    });
  }
  return token.id;
}

/** The revision to resume a watch from; null if it means nothing here (any more). */
function resumable(store: EmbeddedStore, id: string | undefined, text: string | undefined) {
  if (text === undefined || !/^[0-9]{1,15}$/.test(text)) {
    throw new SelvageError("invalid_argument", `revision ${JSON.stringify(text)}: not a number`);
  }
  const revision = Number(text);
  return id === store.incarnation && store.changesSince(revision) !== null ? revision : null;
}

/** How long a list is kept that no other host asks for. */
const LIST_KEPT_MS = 10_000;

/**
 * The reply to a list. After a restart of the registry thousands of hosts list the same leases,
 * and to write them as JSON takes longer than to send them.
 */
class ListReply {
  readonly #store: EmbeddedStore;
  #made: { readonly revision: number; readonly bytes: Uint8Array<ArrayBuffer> } | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(store: EmbeddedStore) {
    this.#store = store;
  }

  /** All leases at the present revision. Throws as the store. */
  bytes(): Uint8Array<ArrayBuffer> {
    const { revision, leases } = this.#store.snapshot();
    if (this.#made?.revision !== revision) {
      const reply = { id: this.#store.incarnation, revision, leases: leases.map(toWireLease) };
      this.#made = { revision, bytes: new TextEncoder().encode(JSON.stringify(reply)) };
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#made = null, LIST_KEPT_MS);
    this.#timer.unref();
    return this.#made.bytes;
  }
}

/** The app; every path asks for a join token first. */
export function createRegistryApp(options: RegistryAppOptions): Hono<Environment> {
  const { store, tokens, streams } = options;
  const app = new Hono<Environment>().basePath(REGISTRY_PATH);
  app.onError((error) => problemResponse(error));
  app.notFound((context) => {
    const text = `there is no ${context.req.method} ${context.req.path}`;
    return problemResponse(new SelvageError("not_found", text));
  });
  app.use("*", async (context, next) => {
    context.set("tokenId", requireJoinToken(tokens, context.req.header("authorization")));
    await next();
  });

  app.get("/config", async () =>
    new Response(formatNetworkConfig(await store.readConfig()), {
      headers: { "content-type": "application/json" },
    }));
  const list = new ListReply(store);
  app.get(
    "/leases",
    () => new Response(list.bytes(), { headers: { "content-type": "application/json" } }),
  );
  app.get("/watch", (context) => {
    const revision = resumable(store, context.req.query("id"), context.req.query("revision"));
    if (revision === null) {
      const text = "the changes since that revision are not known any more";
      return problemResponse(new SelvageError("not_found", text, { hint: "List anew." }), 410);
    }
    const drop = () => context.env.outgoing.destroy();
    return new Response(streams.open(context.get("tokenId"), revision, drop), {
      headers: { "content-type": "application/x-ndjson", "cache-control": "no-store" },
    });
  });

  app.post("/acquire", jsonBody(acquireBody), async (context) => {
    const body = context.req.valid("json");
    const lease = await store.acquire({
      attributes: readLeaseValue(body.value, "value"),
      previousSubnets: body.previousSubnets.map((text) => IpPrefix.parse(text, "previousSubnets")),
    });
    return context.json({ lease: toWireLease(lease) });
  });
  app.post("/renew", jsonBody(renewBody), async (context) => {
    const { key, value, holder } = context.req.valid("json");
    const subnets = parseLeaseKey(key, "key");
    // The store alone knows the expiry; the one here is not read.
    const lease = { ...readLeaseValue(value, "value"), subnets, expiry_ms: null };
    const publicAddresses = holder?.map((text) => IpAddress.parse(text, "holder")) ??
      lease.publicAddresses;
    const renewed = await store.renew(lease, undefined, { publicAddresses });
    return context.json({ lease: toWireLease(renewed) });
  });
  app.post("/release", jsonBody(leaseBody), async (context) => {
    const { key, value } = context.req.valid("json");
    const subnets = parseLeaseKey(key, "key");
    await store.release({ ...readLeaseValue(value, "value"), subnets, expiry_ms: null });
    return context.body(null, 204);
  });
  addAdministration(app, store);
  return app;
}

/** What is done to the leases of others. */
function addAdministration(app: Hono<Environment>, store: EmbeddedStore): void {
  app.post("/reserve", jsonBody(reserveBody), async (context) => {
    const { key, value, force } = context.req.valid("json");
    const attributes = readLeaseValue(value, "value");
    const subnets = parseLeaseKey(key, "key");
    if (force !== true) {
      return context.json({ lease: toWireLease(await store.reserve(subnets, attributes)) });
    }
    const { lease, replaced } = await store.reserveByForce(subnets, attributes);
    return context.json({ lease: toWireLease(lease), replaced: replaced.map(toWireLease) });
  });
  app.post("/revoke", jsonBody(revokeBody), async (context) => {
    await store.revoke(context.req.valid("json").key);
    return context.body(null, 204);
  });
}
