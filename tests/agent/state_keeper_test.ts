import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { keptCertificate } from "../../src/agent/state_keeper.ts";
import { certificatePaths, ensureCertificate } from "../../src/registry/certificate.ts";

test("a deleted key is written again; a damaged pair stops no host that needs none", async () => {
  const stateDir = mkdtempSync(join(tmpdir(), "selvage-keeper-"));
  try {
    assert.deepEqual(keptCertificate(stateDir), []);
    const { fingerprint } = await ensureCertificate(stateDir);
    const { key, certificate } = certificatePaths(stateDir);
    const kept = keptCertificate(stateDir);
    rmSync(key);
    for (const part of kept) part.check();
    assert.ok(existsSync(key));
    assert.equal((await ensureCertificate(stateDir)).fingerprint, fingerprint);
    writeFileSync(certificate, "damaged");
    assert.deepEqual(keptCertificate(stateDir), []);
    rmSync(certificate);
    assert.deepEqual(keptCertificate(stateDir), []);
  } finally {
    rmSync(stateDir, { recursive: true });
  }
});
