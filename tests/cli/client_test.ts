/** Commands that ask a daemon, against real listeners. */
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ApiListener, listenTcp, listenUnix } from "../../src/api/listener.ts";
import { WatcherPool } from "../../src/api/watch_stream.ts";
import { ensureCertificate } from "../../src/registry/certificate.ts";
import {
  API_TOKEN,
  FakeControl,
  FakeStore,
  JOIN_TOKEN,
  lease,
  NOW_MS,
} from "../api/fake_control.ts";
import { cli, FakeIo } from "./fake_io.ts";

let dir = "";
let socket = "";
let control: FakeControl;
const open: ApiListener[] = [];
before(() => {
  dir = mkdtempSync(join(tmpdir(), "selvage-client-"));
});
beforeEach(async () => {
  control = new FakeControl(
    new FakeStore([
      lease("10.5.7.0/24", "192.0.2.2"),
      lease("10.5.52.0/24", "192.0.2.1", NOW_MS + 86_000_000),
    ]),
  );
  socket = join(dir, "api.sock");
  open.push(await listenUnix(control, socket, { watchers: new WatcherPool() }));
});
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});
after(() => rmSync(dir, { recursive: true, force: true }));

/** Runs a command against the socket; `DIR` is the directory, whose path may hold blanks. */
function ask(typed: string, io = new FakeIo({ SELVAGE_API_SOCKET: socket })) {
  return cli(typed.split(" ").map((word) => word.replace("DIR", dir)), io);
}

async function ok(typed: string): Promise<string> {
  const { code, stdout, stderr } = await ask(typed);
  assert.equal(code, 0, stderr);
  return stdout;
}

describe("over the Unix socket", () => {
  test("status, as table and as JSON", async () => {
    assert.match(await ok("status"), /^Phase +ready$/m);
    assert.deepEqual(JSON.parse(await ok("status -json")), control.current);
  });

  test("status --watch redraws until it is interrupted", async () => {
    const io = new FakeIo({ SELVAGE_API_SOCKET: socket });
    io.isTerminal = true;
    io.onOut = () => io.interrupt.abort();
    const { code, stdout } = await ask("status -watch", io);
    assert.equal(code, 0);
    assert.ok(stdout.startsWith("\x1b[H\x1b[JSelvage "), JSON.stringify(stdout.slice(0, 40)));
  });

  test("leases: listed, reserved, revoked", async () => {
    const table = `\
SUBNET        PUBLIC IP  BACKEND  EXPIRES
10.5.7.0/24   192.0.2.2  udp      never (reserved)
10.5.52.0/24  192.0.2.1  udp      2026-01-03 02:57:25Z (23 h 53 min left)
`;
    assert.equal(await ok("leases"), table);
    assert.equal(await ok("leases list"), table);
    assert.equal(
      await ok("leases reserve 10.5.9.0/24 -public-ip 192.0.2.9"),
      "reserved 10.5.9.0-24 for 192.0.2.9\n",
    );
    assert.equal(JSON.parse(await ok("leases list -json")).length, 3);
    const reserved = control.store.leases.get("10.5.9.0-24")!;
    control.store.leases.set("10.5.9.0-24", { ...reserved, expiry_ms: undefined });
    assert.match(await ok("leases"), /^10\.5\.9\.0\/24 +192\.0\.2\.9 +udp +unknown$/m);
    assert.equal(await ok("leases revoke 10.5.9.0/24"), "revoked 10.5.9.0-24\n");
    const revoked = JSON.parse(await ok("leases revoke 10.5.7.0/24 -json"));
    assert.deepEqual(revoked, { revoked: "10.5.7.0-24" });
    assert.equal(control.store.leases.size, 1);
  });

  test("leases reserve --force says what had to go", async () => {
    const typed = "leases reserve 10.5.52.0/24 -public-ip 192.0.2.9 -force";
    assert.equal(
      await ok(typed),
      "reserved 10.5.52.0-24 for 192.0.2.9\n" +
        "the lease 10.5.52.0-24 of 192.0.2.1 is deleted; its host takes another subnet\n",
    );
  });

  test("a dual-stack lease by its whole key", async () => {
    await ok(
      "leases reserve fc00:9::/64,10.5.9.0/24 -public-ip 192.0.2.9 -public-ipv6 2001:db8::9",
    );
    assert.ok(control.store.leases.has("10.5.9.0-24&fc00:9::-64"));
    assert.equal(
      await ok("leases revoke 10.5.9.0-24&fc00:9::-64"),
      "revoked 10.5.9.0-24&fc00:9::-64\n",
    );
  });

  test("what the daemon refuses is told once, with exit 1", async () => {
    for (
      const [typed, message] of [
        ["leases revoke 10.5.200.0/24", /^selvage: no lease 10\.5\.200\.0-24\n$/],
        ["leases reserve 10.5.7.0/24 -public-ip 192.0.2.77", /^selvage: 10\.5\.7\.0-24 is held/],
        ["token revoke nope", /^selvage: no token nope\n$/],
      ] as const
    ) {
      const { code, stdout, stderr } = await ask(typed);
      assert.deepEqual([code, stdout], [1, ""]);
      assert.match(stderr, message);
    }
    const problem = JSON.parse(
      (await ask("leases reserve 10.5.7.0/24 -public-ip 192.0.2.77 -json")).stderr,
    );
    assert.equal(problem.code, "conflict");
  });

  test("leases watch shows all, then changes, until it is interrupted", async () => {
    for (const flag of ["", " -json"]) {
      const io = new FakeIo({ SELVAGE_API_SOCKET: socket });
      let changed = false;
      io.onOut = (stdout) => {
        if (!changed) control.store.change({ type: "delete", key: "10.5.7.0-24" });
        changed = true;
        if (/^- |"delete"/m.test(stdout)) io.interrupt.abort();
      };
      const { code, stdout, stderr } = await ask(`leases watch${flag}`, io);
      assert.equal(code, 0, stderr);
      if (flag === "") {
        assert.match(stdout, /^\+ 10\.5\.52\.0-24 192\.0\.2\.1 udp, expires 2026/m);
        assert.match(stdout, /^- 10\.5\.7\.0-24$/m);
      } else {
        const lines = stdout.trim().split("\n").map((line) => JSON.parse(line));
        assert.deepEqual(lines.at(-1), { changes: [{ type: "delete", key: "10.5.7.0-24" }] });
      }
    }
  });

  test("a watch that the daemon ends is an error", async () => {
    const io = new FakeIo({ SELVAGE_API_SOCKET: socket });
    io.onOut = () => void open.splice(0).forEach((one) => one.close());
    const { code, stderr } = await ask("leases watch", io);
    assert.equal(code, 1);
    assert.match(stderr, /ended the watch/);
  });

  test("config, in force and missing", async () => {
    assert.equal(JSON.parse(await ok("config")).Network, "10.5.0.0/16");
    assert.equal(await ok("config show"), await ok("config"));
    assert.equal(await ok("config show -json"), await ok("config"));
    control.store.config = null;
    const { code, stderr } = await ask("config");
    assert.equal(code, 1);
    assert.match(stderr, /no network configuration yet/);
  });

  test("token create prints the join string alone; list and revoke", async () => {
    const made = await ask("token create -address 192.0.2.1:8286 -description edge");
    assert.equal(made.stdout, "slv1.192.0.2.1:8286.x\n");
    assert.match(made.stderr, /selvage run --join/);
    assert.equal(control.tokens.lastRequest?.description, "edge");
    assert.equal((await ask("token create -scope api")).stdout, `${API_TOKEN}\n`);
    assert.equal(
      await ok("token list"),
      `\
ID  SCOPE  CREATED               DESCRIPTION
t1  join   2026-01-02 03:04:05Z  edge
t2  api    2026-01-02 03:04:05Z
`,
    );
    assert.equal(await ok("token revoke t1"), "revoked t1\n");
    assert.deepEqual([...control.tokens.views.keys()], ["t2"]);
    assert.equal(JSON.parse(await ok("token create -json")).secret, "slv1.default.x");
  });
});

describe("a host that joined a registry", () => {
  test("token list fails if it has none, and says where to ask", async () => {
    const elsewhere = "This host joined the registry at 192.0.2.1:8286. Make tokens on that host.";
    const { tokens } = control;
    const views = new Map(tokens.views);
    try {
      [tokens.note, tokens.keepsRegistry] = [elsewhere, false];
      tokens.views.clear();
      for (const flags of ["", " --json"]) {
        const { code, stdout, stderr } = await ask(`token list${flags}`);
        assert.deepEqual([code, stdout], [1, ""]);
        assert.ok(/keeps no registry/.test(stderr) && stderr.includes(elsewhere), stderr);
      }
      await ok("token create -scope api");
      const { code, stdout, stderr } = await ask("token list");
      assert.deepEqual([code, stderr], [0, `${elsewhere}\n`]);
      assert.match(stdout, / api /);
    } finally {
      [tokens.note, tokens.keepsRegistry] = [null, true];
      tokens.views.clear();
      for (const [id, view] of views) tokens.views.set(id, view);
    }
  });
});

describe("no daemon", () => {
  test("no socket there", async () => {
    const io = new FakeIo({ SELVAGE_API_SOCKET: join(dir, "none.sock") });
    const { code, stderr } = await ask("status", io);
    assert.equal(code, 1);
    assert.match(stderr, /^selvage: no socket at .*none\.sock\nIs `selvage run` running\?/);
  });

  test("the flag counts more than the variable", async () => {
    const { stderr } = await ask("status -api-socket DIR/other.sock");
    assert.match(stderr, /other\.sock/);
  });

  test("something else answers", async () => {
    const server = createServer((_request, response) => {
      response.writeHead(418, { "content-type": "text/html" });
      response.end("<h1>teapot</h1>");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = server.address() as { port: number };
      const { code, stderr } = await ask(`status -api http://127.0.0.1:${port}`);
      assert.equal(code, 1);
      assert.match(stderr, /HTTP status 418.*teapot/);
    } finally {
      server.close();
    }
  });
});

describe("over TCP", () => {
  test("reading is free, changing needs an API token, tokens are not there", async () => {
    const where = { host: "127.0.0.1", port: 0 };
    const listener = await listenTcp(control, where, { watchers: new WatcherPool() });
    open.push(listener);
    const api = `-api ${listener.location}`;
    assert.match(await ok(`status ${api}`), /ready/);
    assert.match((await ask(`leases revoke 10.5.7.0/24 ${api}`)).stderr, /needs an API token/);
    const joined = await ask(`leases revoke 10.5.7.0/24 ${api} -token ${JOIN_TOKEN}`);
    assert.match(joined.stderr, /join token/);
    assert.equal(control.store.leases.size, 2);
    const io = new FakeIo({ SELVAGE_API: listener.location, SELVAGE_TOKEN: API_TOKEN });
    assert.equal((await ask("leases revoke 10.5.7.0/24", io)).code, 0);
    assert.equal(control.store.leases.size, 1);
    assert.match((await ask("token list", io)).stderr, /only managed over the Unix socket/);
    assert.match((await ask("registry backup DIR/backup", io)).stderr, /is not sent over TCP/);
    assert.equal(existsSync(join(dir, "backup")), false);
  });

  test("TLS: only with the certificate that was given", async () => {
    const { certificatePem, privateKeyPem } = await ensureCertificate(join(dir, "state"));
    const listener = await listenTcp(control, { host: "127.0.0.1", port: 0 }, {
      watchers: new WatcherPool(),
      certificate: { cert: certificatePem, key: privateKeyPem },
    });
    open.push(listener);
    assert.match(listener.location, /^https:\/\/127\.0\.0\.1:/);
    writeFileSync(join(dir, "ca.pem"), certificatePem);
    const trusted = `status -api ${listener.location} -api-ca DIR/ca.pem`;
    assert.match(await ok(trusted), /ready/);
    const other = await ensureCertificate(join(dir, "other"));
    writeFileSync(join(dir, "other.pem"), other.certificatePem);
    for (const ca of ["", ` -api-ca DIR/other.pem`]) {
      const refused = await ask(`status -api ${listener.location}${ca}`);
      assert.deepEqual([refused.code, refused.stdout], [1, ""]);
    }
    // Such as a join string, or a certificate that was cut short.
    for (const text of ["selvage1.c2VjcmV0", certificatePem.slice(0, 200)]) {
      writeFileSync(join(dir, "none.pem"), text);
      const { code, stderr } = await ask(`status -api ${listener.location} -api-ca DIR/none.pem`);
      assert.equal(code, 1);
      assert.match(
        stderr,
        /^selvage: --api-ca .*none\.pem: it holds no PEM certificate\n.*crt.*\n$/,
      );
    }
  });
});
