import assert from "node:assert/strict";
import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { withLab } from "./lab.ts";

test("config set: on the registry's host alone, and not what that host could not obey", () =>
  withLab(2, async (lab) => {
    await lab.startRegistry();
    await lab.startJoined(2);
    const file = join(lab.directory, "changed.json");
    const set = (host: number, config: unknown) => {
      writeFileSync(file, JSON.stringify(config));
      return lab.run(host, ["config", "set", file]);
    };
    const changed = { Network: "10.210.0.0/16", SubnetLen: 26 };
    const elsewhere = set(2, changed);
    assert.equal(elsewhere.status, 1);
    assert.match(elsewhere.stderr, /kept elsewhere: 198\.18\.0\.1:8286/);
    assert.match(elsewhere.stderr, /on the registry's host/);

    const inside = set(1, { Network: "198.18.0.0/16" });
    assert.equal(inside.status, 1);
    assert.match(inside.stderr, /198\.18\.0\.1 lies in the overlay's network/);

    const done = set(1, changed);
    assert.equal(done.status, 0, done.stderr);
    assert.match(done.stdout, /SubnetLen +24 +26/);
    assert.match(lab.run(2, ["config", "get"]).stdout, /"SubnetLen": 26/);
    assert.deepEqual([(await lab.ready(1)).phase, (await lab.ready(2)).phase], ["ready", "ready"]);
  }));
