/** TLS: who is trusted, and in what words the others are refused. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { SelvageError } from "../../../src/errors.ts";
import { makeCredentials } from "../../../src/etcd/client/credentials.ts";
import { parseEndpoint } from "../../../src/etcd/client/endpoint.ts";
import { type EtcdOptions, openEtcd } from "../../../src/etcd/client/open_etcd.ts";
import { Authority, type CertificateFiles } from "../certificates.ts";
import { EtcdLab, type LabTls, withEtcd } from "../lab.ts";
import { silentEndpoint } from "../silent_endpoint.ts";

const HERE: LabTls["server"] = { names: ["localhost"], addresses: ["127.0.0.1"] };

async function serves(options: EtcdOptions): Promise<void> {
  const etcd = openEtcd(options);
  try {
    await etcd.get("/none");
  } finally {
    etcd.close();
  }
}

/** The one call must fail in these words, and with this advice. */
async function refused(options: EtcdOptions, why: RegExp, hint: RegExp): Promise<void> {
  const start_ms = performance.now();
  await assert.rejects(serves(options), (error) => {
    assert.ok(error instanceof SelvageError, String(error));
    assert.equal(error.code, "unavailable", error.message);
    assert.match(error.message, why);
    assert.match(error.hint, hint, error.message);
    return true;
  });
  assert.ok(performance.now() - start_ms < 2_000, "it is said at once");
}

/** The same endpoints by another host. */
function at(host: string, options: EtcdOptions): EtcdOptions {
  return {
    ...options,
    endpoints: options.endpoints.map((one) => one.replace("127.0.0.1", host)),
  };
}

describe("a server whose certificate is right", () => {
  let lab: EtcdLab;
  before(async () => {
    lab = await EtcdLab.start({ tls: { server: HERE } });
  });
  after(() => lab.stop());

  test("serves by its address and by its name to who has the authority alone", async () => {
    await serves(lab.clientOptions);
    await serves(at("localhost", lab.clientOptions));
  });

  test("serves who names no authority, where the system trusts this one", async () => {
    const before = process.env["SSL_CERT_FILE"];
    process.env["SSL_CERT_FILE"] = lab.authority!.cafile;
    try {
      await serves({ ...lab.clientOptions, cafile: null });
    } finally {
      if (before === undefined) delete process.env["SSL_CERT_FILE"];
      else process.env["SSL_CERT_FILE"] = before;
    }
  });

  test("watches and writes go over TLS as well", async () => {
    const etcd = openEtcd(lab.clientOptions);
    const abort = new AbortController();
    await etcd.transact([], [{ put: "/t", value: "1", leaseId: 0n }], []);
    for await (const batch of etcd.watch("/t", 1n, abort.signal)) {
      assert.equal(batch[0]?.entry.value, "1");
      abort.abort();
    }
    etcd.close();
  });

  test("is refused by who trusts another authority, or only the system's", async () => {
    const directory = mkdtempSync(join(tmpdir(), "selvage-tls-"));
    try {
      const other = await Authority.make(directory, "other");
      const withOther = { ...lab.clientOptions, cafile: other.cafile };
      await refused(withOther, /certificate is of an unknown authority/, /--etcd-cafile/);
      const withNone = { ...lab.clientOptions, cafile: null };
      await refused(withNone, /certificate is of an unknown authority/, /--etcd-cafile/);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("does not speak without TLS", async () => {
    const plain = lab.clientOptions.endpoints.map((one) => one.replace("https", "http"));
    const options = { ...lab.clientOptions, endpoints: plain };
    await refused(options, /closed the connection in the handshake/, /http:\/\/ or https:\/\//);
  });
});

test("a name is asked for without the dot that ends it, and an address by no address", () => {
  const nothing = { ca: null, certificate: null, key: null };
  const askedFor = (text: string) => {
    const { options } = makeCredentials(parseEndpoint(text, true), nothing);
    return options["grpc.ssl_target_name_override"];
  };
  assert.equal(askedFor("https://etcd.lan.:2379"), "etcd.lan");
  assert.equal(askedFor("https://etcd.lan:2379"), "etcd.lan");
  assert.equal(askedFor("https://[fd00::1]:2379"), "etcd");
});

test("a certificate for other names and addresses is refused, by address and by name", async () => {
  const server = { names: ["other.lan", "127.0.0.1"], addresses: ["127.0.0.2"] };
  await withEtcd({ tls: { server } }, async (lab) => {
    const { clientOptions } = lab;
    const hint = /name or an address that is in the server's certificate/;
    await refused(clientOptions, /certificate is for another name than 127\.0\.0\.1/, hint);
    const byName = at("localhost", clientOptions);
    await refused(byName, /certificate is for another name than localhost/, hint);
  });
});

test("a certificate for the address alone does not do for the name, and the reverse", async () => {
  const hint = /in the server's certificate/;
  await withEtcd({ tls: { server: { addresses: ["127.0.0.1"] } } }, async (lab) => {
    await serves(lab.clientOptions);
    await refused(at("localhost", lab.clientOptions), /for another name than localhost/, hint);
  });
  // The name that is sent to servers at literal addresses gives no right.
  await withEtcd({ tls: { server: { names: ["localhost", "etcd"] } } }, async (lab) => {
    await serves(at("localhost", lab.clientOptions));
    await refused(lab.clientOptions, /for another name than 127\.0\.0\.1/, hint);
  });
});

test("an expired certificate is refused", async () => {
  await withEtcd({ tls: { server: { ...HERE, isExpired: true } } }, async (lab) => {
    if (process.versions["bun"] !== undefined) {
      await refused(lab.clientOptions, /its certificate has expired/, /Renew/);
    } else {
      // Deno has one word for all that is wrong with a certificate but its name.
      await refused(lab.clientOptions, /its certificate/, /./);
    }
  });
});

test("a server at an IPv6 address serves", async () => {
  const tls = { server: { addresses: ["::1"] } };
  await withEtcd({ tls, address: "::1" }, async (lab) => {
    assert.match(lab.clientOptions.endpoints[0]!, /^https:\/\/\[::1\]:/);
    await serves(lab.clientOptions);
  });
});

test("a server without TLS is named as such", async () => {
  await withEtcd({}, async (lab) => {
    const endpoints = lab.clientOptions.endpoints.map((one) => one.replace("http", "https"));
    await refused({ ...lab.clientOptions, endpoints }, /TLS|closed/, /http:\/\/ or https:\/\//);
  });
});

describe("a server that demands a client certificate", () => {
  let lab: EtcdLab;
  let ours: CertificateFiles;
  before(async () => {
    lab = await EtcdLab.start({ tls: { server: HERE, demandsClientCertificate: true } });
    ours = await lab.authority!.issue({ name: "client" });
  });
  after(() => lab.stop());

  test("serves who has one", async () => {
    await serves({ ...lab.clientOptions, ...ours });
  });

  test("refuses who has none, and who has one of another authority", async () => {
    await refused(lab.clientOptions, /client certificate|closed/, /--etcd-certfile/);
    const other = await Authority.make(lab.directory, "other");
    const wrong = await other.issue({ name: "stranger" });
    const options = { ...lab.clientOptions, ...wrong };
    await refused(options, /client certificate|closed/, /--etcd-certfile|http:\/\//);
  });

  test("takes a certificate that was renewed while we ran", async () => {
    const other = await Authority.make(lab.directory, "former");
    const renewed = await other.issue({ name: "renewed" });
    const etcd = openEtcd({ ...lab.clientOptions, ...renewed });
    await assert.rejects(etcd.get("/none"));
    await lab.authority!.issue({ name: "renewed" });
    assert.equal((await etcd.get("/none")).entry, null);
    etcd.close();
  });
});

test("files that cannot be used are named when the client is made", async () => {
  const directory = mkdtempSync(join(tmpdir(), "selvage-tls-"));
  try {
    const authority = await Authority.make(directory);
    const one = await authority.issue({ name: "one" });
    const two = await authority.issue({ name: "two" });
    const empty = join(directory, "empty");
    writeFileSync(empty, "");
    const broken = join(directory, "broken");
    writeFileSync(broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    const base = {
      endpoints: ["https://127.0.0.1:1"],
      ...{ cafile: null, certfile: null, keyfile: null, username: null, password: null },
    };
    const cases: [Partial<EtcdOptions>, RegExp][] = [
      [{ cafile: join(directory, "none") }, /etcd CA: .*none/],
      [{ cafile: empty }, /empty holds no PEM certificate/],
      [{ cafile: broken }, /broken is damaged/],
      [{ certfile: one.certfile }, /one\.crt is given without its key/],
      [{ keyfile: one.keyfile }, /one\.key is given without its certificate/],
      [{ certfile: one.certfile, keyfile: two.keyfile }, /two\.key is not the key of .*one\.crt/],
      [{ certfile: one.certfile, keyfile: empty }, /empty is no private key/],
      [{ username: "root" }, /"root" is given without a password/],
      [{ password: "x" }, /password is given without a user/],
    ];
    for (const [part, why] of cases) {
      assert.throws(() => openEtcd({ ...base, ...part }), (error) => {
        assert.ok(error instanceof SelvageError);
        assert.equal(error.code, "invalid_argument");
        assert.match(error.message, why);
        return true;
      });
    }
    openEtcd({ ...base, certfile: "", keyfile: "", username: "", password: "" }).close();
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a key with a passphrase is told as such, with the way out", async () => {
  const directory = mkdtempSync(join(tmpdir(), "selvage-tls-"));
  try {
    const authority = await Authority.make(directory);
    const { certfile } = await authority.issue({ name: "one" });
    const keyfile = join(directory, "locked.key");
    for (const type of ["pkcs8", "sec1"] as const) {
      const { privateKey } = generateKeyPairSync("ec", {
        namedCurve: "P-256",
        publicKeyEncoding: { type: "spki", format: "pem" },
        privateKeyEncoding: { type, format: "pem", cipher: "aes-256-cbc", passphrase: "x" },
      });
      writeFileSync(keyfile, privateKey);
      const options = { endpoints: ["https://127.0.0.1:1"], cafile: null, certfile, keyfile };
      assert.throws(() => openEtcd({ ...options, username: null, password: null }), (error) => {
        assert.ok(error instanceof SelvageError && error.code === "invalid_argument");
        assert.match(error.message, /locked\.key is locked by a passphrase/);
        assert.match(error.hint, /openssl pkey -in .*locked\.key -out/);
        return true;
      });
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a silent endpoint costs a bounded time with TLS too, and no socket stays open", async () => {
  const silent = await silentEndpoint();
  try {
    const etcd = openEtcd({
      endpoints: [`https://${silent.address}`],
      ...{ cafile: null, certfile: null, keyfile: null, username: null, password: null },
      connect_ms: 100,
    });
    for (let i = 0; i < 5; i++) {
      await assert.rejects(etcd.get("/none"), /no answer to the connection in 0\.1 s/);
    }
    assert.equal(silent.acceptedCount, 5);
    const until_ms = performance.now() + 2_000;
    while (silent.openCount > 0) {
      assert.ok(performance.now() < until_ms, `${silent.openCount} sockets are open`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    etcd.close();
  } finally {
    await silent.close();
  }
});
