/** The time of day is set while daemons run, as on a host without a battery clock. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Status } from "../../src/agent/status.ts";
import { type Lab, withLab } from "./lab.ts";

const HOUR_MS = 3600_000;
const DAY_MS = 24 * HOUR_MS;

/** The library of the package `faketime`, of the threads' kind. */
function libfaketime(): string {
  const places = readdirSync("/usr/lib").map((name) => `/usr/lib/${name}/faketime`);
  const path = places.map((one) => join(one, "libfaketimeMT.so.1")).find((one) => existsSync(one));
  assert.ok(path, "libfaketime is not installed (Debian: faketime)");
  return path;
}

/** Gives the daemons that are started from now on a time of day of their own, which can be set. */
function ownTimeOfDay(lab: Lab): (offset_days: number) => void {
  const file = join(lab.directory, "clock");
  Object.assign(lab.env, {
    LD_PRELOAD: libfaketime(),
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: "1",
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
  });
  const set = (offset_days: number) =>
    writeFileSync(file, `${offset_days < 0 ? "" : "+"}${offset_days}d`);
  set(0);
  return set;
}

/** Waits until a daemon goes by the new time of day. */
async function afterSet(lab: Lab, host: number, offset_days: number): Promise<Status> {
  return await lab.until(
    host,
    "the clock was not set",
    ({ now_ms }) => Math.abs(now_ms - Date.now() - offset_days * DAY_MS) < HOUR_MS,
  );
}

test("the time of day is set by days and by decades: durations stay true, and hosts ready", () =>
  withLab(2, async (lab) => {
    const start_ms = performance.now();
    const setClock = ownTimeOfDay(lab);
    await lab.startAll();
    for (const offset_days of [-1, 60, -20_000, 0]) {
      setClock(offset_days);
      for (const host of [1, 2]) {
        const status = await afterSet(lab, host, offset_days);
        const age_ms = performance.now() - start_ms + 1_000;
        const what = `host${host}, ${offset_days} days: ${JSON.stringify(status)}`;
        assert.ok(status.uptime_ms >= 0 && status.uptime_ms < age_ms, what);
        assert.equal(status.now_ms - status.started_ms, status.uptime_ms);
        const since_ms = status.now_ms - status.store!.since_ms;
        assert.ok(since_ms >= -1 && since_ms < age_ms, what);
        const left_ms = status.lease!.expiry_ms! - status.now_ms;
        assert.ok(left_ms > DAY_MS - age_ms && left_ms <= DAY_MS, what);
        assert.ok(status.lease!.renewal_ms! < status.lease!.expiry_ms!, what);
        assert.deepEqual([status.ready, status.problems], [true, []], what);
        // By this process's own clock, which was not set.
        const text = lab.run(host, ["status"]).stdout;
        assert.match(text, /up (\d+ min )?\d+ s/);
        assert.match(text, /23 h 5\d min left, renewed in 22 h 5\d min/);
      }
    }
    lab.assertPings([1, 2], [2, 1]);
    // The store is lost, and the clock is set just then: it has been away for seconds.
    await lab.kill(1);
    setClock(1);
    await afterSet(lab, 2, 1);
    const lost = await lab.until(2, "store not lost", ({ store }) => store?.connected === false);
    assert.ok(lost.now_ms - lost.store!.since_ms < 60_000);
    assert.equal(lost.ready, true);
    for (const host of [1, 2]) {
      const foreign = lab.log(host).trimEnd().split("\n").filter((line) =>
        !/^\d{4}-\d\d-\d\dT[\d:.]+Z (INFO|WARNING) /.test(line)
      );
      assert.deepEqual(foreign, [], "the runtime wrote past the log");
    }
  }));
