import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { keptCertificate, KeptFile, StateKeeper } from "../../src/agent/state_keeper.ts";
import { writeFileAtomic } from "../../src/files.ts";
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

test("a file that cannot be written again is a problem until it can, unless it is not kept", () => {
  const parent = mkdtempSync(join(tmpdir(), "selvage-keeper-"));
  const [directory, path] = [join(parent, "run"), join(parent, "run", "subnet.env")];
  let isKept = false;
  try {
    const file = new KeptFile(
      path,
      () => writeFileAtomic(path, "x", { mode: 0o644 }),
      () => isKept,
    );
    const keeper = new StateKeeper([file], 1_000);
    file.check();
    assert.ok(!existsSync(path), "nothing has to be there yet");
    isKept = true;
    writeFileSync(directory, "");
    file.check();
    assert.match(`${keeper.problems}`, /subnet\.env was deleted, and cannot be written again/);
    rmSync(directory);
    file.check();
    assert.ok(existsSync(path));
    assert.deepEqual(keeper.problems, []);
    keeper.stop();
  } finally {
    rmSync(parent, { recursive: true });
  }
});
