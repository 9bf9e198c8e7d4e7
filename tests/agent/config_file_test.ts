import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ConfigFile } from "../../src/agent/config_file.ts";
import type { Network } from "../../src/agent/network.ts";
import { EmbeddedStore } from "../../src/store/embedded_store.ts";

test("a registry of an older Selvage keeps its configuration until the file changes", async () => {
  const directory = mkdtempSync(join(tmpdir(), "selvage-config-file-"));
  const [path, file] = [join(directory, "registry.db"), join(directory, "net-conf.json")];
  const read = (value: unknown) => {
    writeFileSync(file, JSON.stringify(value));
    return new ConfigFile(file, (config) => ({ config }) as Network);
  };
  try {
    const old = new EmbeddedStore({ path });
    old.setConfig('{"Network": "10.5.0.0/16", "SubnetLen": 26}', "test");
    await old.close();
    const database = new DatabaseSync(path);
    database.exec("DROP TABLE config_file");
    database.close();

    const store = new EmbeddedStore({ path });
    const unchanged = read({ Network: "10.5.0.0/16" });
    assert.equal(unchanged.isNewTo(store), false);
    unchanged.introduceTo(store);
    assert.match(unchanged.notice(store) ?? "", /SubnetLen is 26 in the registry and 24 in the/);
    const changed = read({ Network: "10.5.0.0/16", SubnetLen: 25 });
    assert.equal(changed.isNewTo(store), true);
    changed.apply(store);
    assert.equal(changed.notice(store), null);
    assert.equal(store.config?.ranges[0]?.subnetLength, 25);
    await store.close();
  } finally {
    rmSync(directory, { recursive: true });
  }
});
