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

test("config set: a restart with an unchanged --net-config file does not undo it", () =>
  withLab(1, async (lab) => {
    const base = { Network: "10.210.0.0/16" };
    const netConfig = join(lab.directory, "net-conf.json");
    const other = join(lab.directory, "other.json");
    const length = () => {
      const shown = lab.run(1, ["config", "show"]);
      return (JSON.parse(shown.stdout) as { SubnetLen: number }).SubnetLen;
    };
    const restart = async (config: unknown) => {
      await lab.stop(1);
      return await lab.startRegistry(config);
    };
    await lab.startRegistry(base);
    writeFileSync(other, JSON.stringify({ ...base, SubnetLen: 26 }));
    assert.equal(lab.run(1, ["config", "set", other]).status, 0);
    const isNoticed = (notices: readonly string[]) =>
      notices.some((notice) =>
        notice.includes(`${netConfig} is not in force`) &&
        notice.includes("SubnetLen is 26 in the registry and 24 in the file") &&
        notice.includes("selvage config set") && notice.includes("selvage config show >")
      );
    await lab.until(1, "no notice of the file", ({ notices }) => isNoticed(notices));

    // The same file, written in another way.
    const again = await restart({ SubnetLen: 24, ...base });
    assert.equal(length(), 26);
    assert.ok(isNoticed(again.notices), again.notices.join("\n"));
    assert.equal(again.ready, true);
    assert.match(lab.log(1), /WARNING agent: .*is not in force/);

    // A file that has changed is applied, once.
    const changed = await restart({ ...base, SubnetLen: 25 });
    assert.equal(length(), 25);
    assert.deepEqual(changed.notices.filter((notice) => notice.includes("not in force")), []);
    assert.match(lab.log(1), /net-conf\.json has changed; it is now the network's configuration/);
    assert.equal(lab.run(1, ["config", "set", other]).status, 0);
    await restart({ ...base, SubnetLen: 25 });
    assert.equal(length(), 26);

    // Both ways out that the notice names.
    writeFileSync(netConfig, lab.run(1, ["config", "show"]).stdout);
    await lab.stop(1);
    lab.launch(1, [`--net-config=${netConfig}`]);
    const settled = await lab.ready(1);
    assert.deepEqual(settled.notices.filter((notice) => notice.includes("not in force")), []);
    assert.equal(length(), 26);
  }));
