import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { createApi } from "../../src/api/app.ts";
import type { GuardOptions } from "../../src/api/guard.ts";
import { WatcherPool } from "../../src/api/watch_stream.ts";
import { SelvageError } from "../../src/errors.ts";
import { API_TOKEN, FakeControl, FakeStore, JOIN_TOKEN, lease, NOW_MS } from "./fake_control.ts";

function setUp(
  options: { guard?: GuardOptions | null; watchers?: WatcherPool; stall_ms?: number } = {},
) {
  const control = new FakeControl(
    new FakeStore([lease("10.5.52.0/24", "192.0.2.1", NOW_MS), lease("10.5.7.0/24", "192.0.2.2")]),
  );
  const shutdown = new AbortController();
  const watchers = options.watchers ?? new WatcherPool();
  const api = createApi(control, {
    guard: options.guard ?? null,
    shutdown: shutdown.signal,
    watchers,
    storeTimeout_ms: 20,
    ...(options.stall_ms === undefined ? {} : { stall_ms: options.stall_ms }),
  });
  return { api, control, shutdown, watchers };
}

function json(body: unknown, method = "POST"): RequestInit {
  const headers = { "content-type": "application/json" };
  return { method, headers, body: typeof body === "string" ? body : JSON.stringify(body) };
}

/** Checks that it is a problem document with our headers, and returns it. */
async function problemOf(response: Response, status: number) {
  assert.equal(response.status, status);
  assert.equal(response.headers.get("content-type"), "application/problem+json");
  assert.equal(response.headers.get("x-content-type-options"), "nosniff");
  const problem = await response.json();
  assert.equal(problem.status, status);
  return problem;
}

describe("reading", () => {
  test("health, and readiness with its reasons", async () => {
    const { api, control } = setUp();
    assert.equal((await api.request("/healthz")).status, 200);
    control.reasons = ["no lease yet"];
    const not = await api.request("/readyz");
    assert.equal(not.status, 503);
    assert.deepEqual(await not.json(), { ready: false, reasons: ["no lease yet"] });
    assert.equal((await api.request("/healthz")).status, 200);
    control.reasons = [];
    const ready = await api.request("/readyz");
    assert.deepEqual([ready.status, await ready.json()], [200, { ready: true, reasons: [] }]);
  });

  test("status, as it is", async () => {
    const { api, control } = setUp();
    assert.deepEqual(await (await api.request("/v1/status")).json(), control.current);
  });

  test("the configuration in flannel's words", async () => {
    const { api, control } = setUp();
    assert.deepEqual(await (await api.request("/v1/config")).json(), {
      EnableIPv4: true,
      EnableIPv6: false,
      EnableNFTables: false,
      Network: "10.5.0.0/16",
      SubnetLen: 24,
      SubnetMin: "10.5.1.0",
      SubnetMax: "10.5.255.0",
      Backend: { Type: "udp" },
    });
    control.store.config = null;
    assert.equal((await problemOf(await api.request("/v1/config"), 404)).code, "config_missing");
  });

  test("leases, with expiry or none", async () => {
    const { api } = setUp();
    const { leases } = await (await api.request("/v1/leases")).json();
    assert.deepEqual(leases, [
      {
        key: "10.5.52.0-24",
        subnets: ["10.5.52.0/24"],
        publicAddresses: ["192.0.2.1"],
        backendType: "udp",
        backendData: {},
        expiry_ms: NOW_MS,
      },
      {
        key: "10.5.7.0-24",
        subnets: ["10.5.7.0/24"],
        publicAddresses: ["192.0.2.2"],
        backendType: "udp",
        backendData: {},
        expiry_ms: null,
      },
    ]);
  });

  test("a lease whose end the store does not know has no expiry", async () => {
    const { api, control } = setUp();
    const unknown = { ...lease("10.5.60.0/24", "192.0.2.6"), expiry_ms: undefined };
    control.store.change({ type: "put", key: "10.5.60.0-24", lease: unknown });
    const { leases } = await (await api.request("/v1/leases")).json();
    const shown = leases.find(({ key }: { key: string }) => key === "10.5.60.0-24");
    assert.equal("expiry_ms" in shown, false);
  });

  test("the end of the host's own lease, where the store does not know it", async () => {
    const { api, control } = setUp();
    const own = control.current.lease!;
    const endless = (subnet: string) => ({ ...lease(subnet, "192.0.2.1"), expiry_ms: undefined });
    const ends = async () => {
      const { leases } = await (await api.request("/v1/leases")).json();
      return leases.map(({ expiry_ms }: { expiry_ms?: number }) => expiry_ms);
    };
    assert.deepEqual(own.subnets, ["10.5.52.0/24"]);
    assert.deepEqual(await ends(), [NOW_MS, null], "what the store says counts");
    control.store.list = () => Promise.resolve([endless("10.5.52.0/24"), endless("10.5.60.0/24")]);
    assert.deepEqual(await ends(), [own.expiry_ms, undefined]);
    for (const other of [{ ...own, lostSince_ms: NOW_MS }, { ...own, expiry_ms: null }, null]) {
      control.current = { ...control.current, lease: other };
      assert.deepEqual(await ends(), [undefined, undefined], JSON.stringify(other));
    }
    control.current = { ...control.current, lease: own };
    control.known = [endless("10.5.60.0/24"), endless("10.5.52.0/24")];
    control.store.list = () => Promise.reject(new SelvageError("unavailable", "refused"));
    assert.deepEqual(await ends(), [undefined, own.expiry_ms], "of those known last as well");
  });

  for (const isConnected of [true, false]) {
    const how = isConnected ? "does not answer" : "is known to be away";
    test(`a store that ${how}: the leases that this host knew last, and why`, async () => {
      const { api, control } = setUp();
      const { store } = control;
      const state = store.state();
      store.state = () => ({ ...state, connected: isConnected });
      store.list = () => Promise.reject(new SelvageError("unavailable", "connection refused"));
      const problem = await problemOf(await api.request("/v1/leases"), 503);
      assert.equal(problem.detail, "connection refused");
      control.known = [{ ...lease("10.5.60.0/24", "192.0.2.6"), expiry_ms: undefined }];
      const { leases, storeError } = await (await api.request("/v1/leases")).json();
      assert.deepEqual(leases.map(({ key }: { key: string }) => key), ["10.5.60.0-24"]);
      assert.equal(storeError, "connection refused");
      store.list = () => new Promise(() => {});
      const silent = await (await api.request("/v1/leases")).json();
      assert.match(silent.storeError, /did not answer within 20 ms/);
    });
  }

  test("every answer has the security headers and none allows another site", async () => {
    const { api } = setUp();
    for (const path of ["/healthz", "/v1/status", "/nowhere", "/v1/leases/x"]) {
      const { headers } = await api.request(path, { headers: { origin: "http://evil.example" } });
      assert.equal(headers.get("x-content-type-options"), "nosniff", path);
      assert.equal(headers.get("cache-control"), "no-store", path);
      assert.match(headers.get("content-security-policy") ?? "", /default-src 'none'/, path);
      assert.equal(headers.get("access-control-allow-origin"), null, path);
    }
  });
});

describe("changing", () => {
  test("the configuration is replaced by the one in the body", async () => {
    const { api, control } = setUp();
    const put = (body: unknown) => api.request("/v1/config", { ...json(body), method: "PUT" });
    const answer = await put({ Network: "10.9.0.0/16", Backend: { Type: "host-gw" } });
    assert.equal(answer.status, 200);
    assert.equal((await answer.json()).SubnetMax, "10.9.255.0");
    assert.equal(control.store.config?.backend.type, "host-gw");
    for (const wrong of [{ Network: "10.9.0.0/30" }, [], "x", {}]) {
      assert.equal((await problemOf(await put(wrong), 400)).code, "invalid_argument");
    }
    assert.equal(control.store.config?.backend.type, "host-gw");
  });

  test("a configuration is forced where the query says so; no key may be there twice", async () => {
    const { api, control } = setUp();
    const put = (query: string, body: string) =>
      api.request(`/v1/config${query}`, {
        method: "PUT",
        body,
        headers: { "content-type": "application/json" },
      });
    const good = '{"Network":"10.9.0.0/16"}';
    for (const query of ["", "?force=true", "?force=false"]) {
      assert.equal((await put(query, good)).status, 200);
    }
    assert.deepEqual(control.forced, [false, true, false]);
    const wrong = await problemOf(await put("?force=yes", good), 400);
    assert.match(wrong.detail, /force must be true or false/);
    const twice = '{"Network":"10.9.0.0/16","network":"10.8.0.0/16"}';
    const repeated = await problemOf(await put("?force=true", twice), 400);
    assert.match(repeated.detail, /"network" is there more than once/);
    assert.equal(control.forced.length, 3);
  });

  test("a reservation is made, listed, revoked", async () => {
    const { api, control } = setUp();
    const made = await api.request(
      "/v1/leases",
      json({ subnets: ["10.5.9.0/24"], publicAddresses: ["192.0.2.9"] }),
    );
    assert.equal(made.status, 201);
    assert.equal((await made.json()).key, "10.5.9.0-24");
    assert.equal(control.store.leases.get("10.5.9.0-24")?.expiry_ms, null);
    for (const status of [204, 404]) {
      const gone = await api.request("/v1/leases/10.5.9.0-24", { method: "DELETE" });
      assert.equal(gone.status, status);
    }
    assert.equal(control.store.leases.has("10.5.9.0-24"), false);
  });

  test("both families in either order, and a key that is percent-encoded", async () => {
    const { api, control } = setUp();
    await api.request(
      "/v1/leases",
      json({
        subnets: ["fc00:1::/64", "10.5.9.0/24"],
        publicAddresses: ["2001:db8::9", "192.0.2.9"],
      }),
    );
    const key = "10.5.9.0-24&fc00:1::-64";
    assert.deepEqual(control.store.leases.get(key)?.publicAddresses.map(String), [
      "192.0.2.9",
      "2001:db8::9",
    ]);
    const path = `/v1/leases/${encodeURIComponent(key)}`;
    assert.equal((await api.request(path, { method: "DELETE" })).status, 204);
  });

  const good = { subnets: ["10.5.9.0/24"], publicAddresses: ["192.0.2.9"] };
  for (
    const [name, body, words] of [
      ["no JSON", "{", /body: not JSON/],
      ["an array", [], /body/],
      ["nothing in it", {}, /subnets/],
      ["a subnet that is none", { ...good, subnets: ["10.5.9.0"] }, /subnets.0.*ADDRESS\/LENGTH/],
      ["host bits", { ...good, subnets: ["10.5.9.7/24"] }, /10\.5\.9\.7\/24.*10\.5\.9\.0\/24/],
      ["two of a family", { ...good, subnets: ["10.5.9.0/24", "10.5.8.0/24"] }, /one of each/],
      ["three", { ...good, subnets: ["10.5.9.0/24", "fc00::/64", "10.5.8.0/24"] }, /subnets/],
      ["an address that is none", { ...good, publicAddresses: ["x"] }, /publicAddresses.0/],
      ["a number", { ...good, publicAddresses: [5] }, /publicAddresses.0/],
      ["an unknown key", { ...good, colour: "red" }, /colour/],
      ["an impossible backend", { ...good, backendType: "UDP/../" }, /backendType/],
      ["a backend that none has", { ...good, backendType: "constructor" }, /backendType.*"vxlan"/],
      ["a long text", { ...good, subnets: ["1".repeat(100)] }, /subnets.0/],
    ] as const
  ) {
    test(`a reservation with ${name} is refused and changes nothing`, async () => {
      const { api, control } = setUp();
      const problem = await problemOf(await api.request("/v1/leases", json(body)), 400);
      assert.equal(problem.code, "invalid_argument");
      assert.match(problem.detail, words);
      assert.equal(control.store.leases.size, 2);
    });
  }

  test("another content type is refused", async () => {
    const { api } = setUp();
    const init = { ...json(good), headers: { "content-type": "text/plain" } };
    assert.match(
      (await problemOf(await api.request("/v1/leases", init), 415)).detail,
      /text\/plain/,
    );
  });

  for (const backendType of ["vxlan", "host-gw", "wireguard"]) {
    test(`a reservation for the backend ${backendType} is made`, async () => {
      const { api, control } = setUp();
      await api.request("/v1/leases", json({ ...good, backendType }));
      assert.equal(control.store.leases.get("10.5.9.0-24")?.backendType, backendType);
    });
  }

  const media: readonly [status: number, headers: Record<string, string>][] = [
    [201, { "content-type": "application/json; charset=utf-8" }],
    [201, { "content-type": 'Application/JSON ; a="b;c" ; Charset="UTF-8"' }],
    [201, { "content-type": "application/json;" }],
    [201, { "content-type": "application/json", "content-encoding": "identity" }],
    [415, { "content-type": "application/json; charset=utf-16" }],
    [415, { "content-type": "application/json; charset=latin1; charset=utf-8" }],
    [415, { "content-type": "application/json; charset=" }],
    [415, { "content-type": "application/json; nonsense" }],
    [415, { "content-type": "application/json5" }],
    [415, { "content-type": "application/json", "content-encoding": "gzip" }],
    [415, { "content-type": "application/json", "content-encoding": "identity, br" }],
  ];
  for (const [status, headers] of media) {
    test(`a body with ${JSON.stringify(headers)}: ${status}`, async () => {
      const { api, control } = setUp();
      const response = await api.request("/v1/leases", { ...json(good), headers });
      assert.equal(response.status, status, await response.clone().text());
      if (status === 415) assert.equal((await response.json()).code, "unsupported_media");
      assert.equal(control.store.leases.size, status === 201 ? 3 : 2);
    });
  }

  test("a body too large is refused, with and without a stated length", async () => {
    const { api } = setUp();
    const large = JSON.stringify({ ...good, pad: "x".repeat(70_000) });
    const stated = json(large);
    stated.headers = { ...stated.headers, "content-length": String(large.length) };
    assert.equal((await problemOf(await api.request("/v1/leases", stated), 413)).code, "too_large");
    let pulled_bytes = 0;
    const body = new ReadableStream({
      pull(controller) {
        pulled_bytes += 8192;
        controller.enqueue(new Uint8Array(8192).fill(32));
      },
    });
    const endless = new Request("http://x/v1/leases", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      duplex: "half",
    } as RequestInit);
    assert.equal((await problemOf(await api.request(endless), 413)).code, "too_large");
    assert.ok(pulled_bytes < 128 * 1024, `${pulled_bytes} bytes were read of an endless body`);
  });

  test("a body at the limit is read", async () => {
    const { api } = setUp();
    const text = JSON.stringify(good);
    const init = json(text + " ".repeat(64 * 1024 - text.length));
    assert.equal((await api.request("/v1/leases", init)).status, 201);
  });

  test("a lease key that is none, and one of another node", async () => {
    const { api } = setUp();
    const bad = await api.request("/v1/leases/nonsense", { method: "DELETE" });
    assert.match((await problemOf(bad, 400)).detail, /nonsense/);
    const taken = json({ subnets: ["10.5.7.0/24"], publicAddresses: ["192.0.2.77"] });
    assert.equal((await problemOf(await api.request("/v1/leases", taken), 409)).code, "conflict");
  });

  test("tokens: made, listed without secret, revoked", async () => {
    const { api, control } = setUp();
    const made = await api.request("/v1/tokens", json({ address: "192.0.2.1:8286" }));
    assert.equal(made.status, 201);
    assert.equal((await made.json()).secret, "slv1.192.0.2.1:8286.x");
    assert.equal(control.tokens.lastRequest?.scope, "join");
    const listed = await (await api.request("/v1/tokens")).text();
    assert.ok(listed.includes("t1") && !listed.includes("slv1."), listed);
    assert.equal((await api.request("/v1/tokens/t1", { method: "DELETE" })).status, 204);
    await problemOf(await api.request("/v1/tokens/t1", { method: "DELETE" }), 404);
    await problemOf(await api.request("/v1/tokens", json({ scope: "root" })), 400);
  });
});

describe("beyond loopback", () => {
  const rules: GuardOptions = {
    scheme: "https",
    isOurHost: null,
    tokenFor: "everything",
    verify: (bearer) => bearer === API_TOKEN ? "api" : bearer === JOIN_TOKEN ? "join" : null,
    onRevoked: () => () => {},
  };
  const asked = async (path: string, headers: Record<string, string>) =>
    (await setUp({ guard: rules }).api.request(path, { headers: { host: "h:1", ...headers } }))
      .status;

  test("nothing is told without an API token, not even what paths there are", async () => {
    for (const path of ["/healthz", "/readyz", "/v1/status", "/v1/leases/watch", "/nowhere"]) {
      assert.equal(await asked(path, {}), 401, path);
      assert.equal(await asked(path, { authorization: "Bearer wrong" }), 401, path);
      assert.equal(await asked(path, { authorization: `Bearer ${JOIN_TOKEN}` }), 403, path);
    }
    assert.equal(await asked("/v1/status", { authorization: `Bearer ${API_TOKEN}` }), 200);
    assert.equal(await asked("/v1/tokens", { authorization: `Bearer ${API_TOKEN}` }), 404);
  });

  test("a page of another site is refused, with the token too", async () => {
    const authorization = `Bearer ${API_TOKEN}`;
    assert.equal(await asked("/v1/status", { authorization, origin: "https://h:1" }), 200);
    assert.equal(await asked("/v1/status", { authorization, origin: "http://h:1" }), 403);
    assert.equal(await asked("/v1/status", { authorization, origin: "https://evil:1" }), 403);
  });
});

describe("whoever asks often", () => {
  const rules: GuardOptions = {
    scheme: "http",
    isOurHost: null,
    tokenFor: "changes",
    verify: () => "api",
    onRevoked: () => () => {},
  };
  const PATHS = ["/v1/config", "/v1/leases", "/v1/status"];

  /** Asks for everything so many times; returns how often the node itself was asked. */
  async function countReads(guard: GuardOptions | null, askCount: number) {
    const { api, control } = setUp({ guard });
    const counts = { config: 0, leases: 0, status: 0 };
    const { store } = control;
    const read = { config: store.readConfig, leases: store.list, status: control.status };
    store.readConfig = () => (counts.config++, read.config.call(store));
    store.list = () => (counts.leases++, read.leases.call(store));
    control.status = () => (counts.status++, read.status.call(control));
    const ask = async () => {
      for (let i = 0; i < askCount; i++) {
        for (const path of PATHS) assert.equal((await api.request(path)).status, 200, path);
      }
    };
    await ask();
    return { api, counts, ask };
  }

  test("over TCP is answered from memory, and sees its own changes", async () => {
    const { api, counts, ask } = await countReads(rules, 50);
    assert.deepEqual(counts, { config: 1, leases: 1, status: 1 });
    const headers = { authorization: `Bearer ${API_TOKEN}` };
    const change = { method: "DELETE", headers };
    assert.equal((await api.request("/v1/leases/10.5.7.0-24", change)).status, 204);
    const { leases } = await (await api.request("/v1/leases")).json();
    assert.deepEqual(leases.map(({ key }: { key: string }) => key), ["10.5.52.0-24"]);
    await ask();
    assert.deepEqual(counts, { config: 2, leases: 2, status: 2 });
  });

  test("over the Unix socket gets what is so now", async () => {
    const { counts } = await countReads(null, 3);
    assert.deepEqual(counts, { config: 3, leases: 3, status: 3 });
  });
});

describe("errors", () => {
  test("unknown paths and methods", async () => {
    const { api } = setUp();
    assert.match((await problemOf(await api.request("/v2/x"), 404)).detail, /\/v2\/x/);
    for (
      const [method, path, allow] of [
        ["POST", "/healthz", "GET, HEAD"],
        ["PUT", "/v1/leases", "GET, HEAD, POST"],
        ["GET", "/v1/leases/10.5.7.0-24", "DELETE"],
        ["PATCH", "/v1/tokens/t1", "DELETE"],
      ] as const
    ) {
      const response = await api.request(path, { method });
      assert.equal(response.headers.get("allow"), allow, path);
      const problem = await problemOf(response, 405);
      assert.equal(problem.code, "method_not_allowed");
      assert.equal(problem.hint, `It supports ${allow}.`);
    }
    assert.equal((await api.request("/v1/status", { method: "HEAD" })).status, 200);
  });

  test("a store that hangs is given up after the timeout", async () => {
    const { api, control } = setUp();
    control.store.hangs = true;
    const problem = await problemOf(await api.request("/v1/leases"), 503);
    assert.equal(problem.code, "unavailable");
    assert.match(problem.detail, /20 ms/);
  });

  test("a store's own error keeps its code; a defect tells nothing of itself", async () => {
    const { api, control } = setUp();
    control.store.failure = new SelvageError("unavailable", "registry 192.0.2.1:8286: no answer");
    assert.match((await problemOf(await api.request("/v1/leases"), 503)).detail, /8286/);
    control.store.failure = new TypeError("secret /etc/path of undefined");
    const problem = await problemOf(await api.request("/v1/leases"), 500);
    assert.equal(problem.code, "internal");
    assert.doesNotMatch(JSON.stringify(problem), /secret|etc/);
  });
});
