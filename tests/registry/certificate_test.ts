import { afterEach, beforeEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureCertificate } from "../../src/registry/certificate.ts";
import { rejectsWith } from "../store/harness.ts";

describe("the registry's certificate", () => {
  let parent: string;
  let stateDir: string;
  beforeEach(() => {
    parent = mkdtempSync(join(tmpdir(), "selvage-certificate-"));
    stateDir = join(parent, "state");
  });
  afterEach(() => rmSync(parent, { recursive: true }));

  test("is made once, and its key is its owner's alone", async () => {
    const made = await ensureCertificate(stateDir);
    assert.deepEqual(await ensureCertificate(stateDir), made);
    assert.equal(statSync(stateDir).mode & 0o777, 0o700);
    assert.equal(statSync(join(stateDir, "registry.key")).mode & 0o777, 0o600);
    const certificate = new X509Certificate(made.certificatePem);
    assert.equal(certificate.fingerprint256.replaceAll(":", "").toLowerCase(), made.fingerprint);
    assert.equal(certificate.subjectAltName, "DNS:registry.selvage");
    assert.equal(certificate.publicKey.asymmetricKeyType, "ec");
    assert.equal(certificate.publicKey.asymmetricKeyDetails?.namedCurve, "prime256v1");
    assert.ok(certificate.verify(certificate.publicKey));
    const year_ms = 365 * 24 * 60 * 60 * 1000;
    assert.ok(Date.parse(certificate.validTo) - Date.now() > 19 * year_ms);
    assert.ok(Date.parse(certificate.validFrom) < Date.parse("2001-01-01"));
  });

  test("of two hosts differs", async () => {
    const other = await ensureCertificate(join(parent, "other"));
    assert.notEqual((await ensureCertificate(stateDir)).fingerprint, other.fingerprint);
  });

  test("that is damaged, or does not fit its key, is refused by name and left alone", async () => {
    await ensureCertificate(stateDir);
    await ensureCertificate(join(parent, "other"));
    const [crt, key] = [join(stateDir, "registry.crt"), join(stateDir, "registry.key")];
    const [goodCrt, goodKey] = [readFileSync(crt), readFileSync(key)];
    const otherKey = readFileSync(join(parent, "other", "registry.key"));
    const rows: [string, string | Uint8Array, RegExp][] = [
      [crt, "nonsense", /registry\.crt is no certificate/],
      [crt, goodCrt.subarray(0, 200), /registry\.crt is no certificate/],
      [key, "nonsense", /registry\.key is no private key/],
      [key, otherKey, /registry\.key is not the key of .*registry\.crt/],
    ];
    for (const [path, contents, message] of rows) {
      writeFileSync(crt, goodCrt);
      writeFileSync(key, goodKey);
      writeFileSync(path, contents);
      const error = await rejectsWith("unavailable", ensureCertificate(stateDir));
      assert.match(error.message, message);
      assert.deepEqual(readFileSync(path), Buffer.from(contents));
    }
    rmSync(key);
    const error = await rejectsWith("not_found", ensureCertificate(stateDir));
    assert.match(error.message, /registry\.key/);
  });
});
