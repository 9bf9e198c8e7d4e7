/** What a daemon costs whose etcd is away for long, and that it needs nobody to go on. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { processTime_s } from "../bench/processes.ts";
import { withLab } from "./lab.ts";
import { LabEtcd } from "./lab_etcd.ts";

/** The back-off has come to its end before this, counted from when etcd is missed. */
const SETTLE_MS = 4_000;
const WINDOW_MS = 8_000;
/** Of a processor. */
const SHARE_MAX = 0.05;

interface Absence {
  readonly what: string;
  begin(etcd: LabEtcd): Promise<void> | void;
  end(etcd: LabEtcd): void;
}
const ABSENCES: readonly Absence[] = [
  { what: "etcd refuses", begin: (etcd) => etcd.kill(), end: (etcd) => etcd.start() },
  {
    what: "etcd accepts and never answers",
    begin: (etcd) => etcd.signal("SIGSTOP"),
    end: (etcd) => etcd.signal("SIGCONT"),
  },
];

/** The part of a processor that the executable takes while etcd is away so. */
function shareDuring({ begin, end }: Absence): Promise<number> {
  let share = NaN;
  return withLab(1, async (lab) => {
    const etcd = new LabEtcd(lab);
    try {
      etcd.start();
      await etcd.setConfig({ Network: "10.210.0.0/16" });
      lab.launch(1, [etcd.flag]);
      await lab.ready(1);
      await begin(etcd);
      await lab.until(1, "etcd is not missed", ({ store }) => !store!.connected);
      await pause(SETTLE_MS);
      const pids = [lab.host(1).pid];
      const start_ms = performance.now();
      const before_s = processTime_s(pids);
      await pause(WINDOW_MS);
      share = 1_000 * (processTime_s(pids) - before_s) / (performance.now() - start_ms);
      end(etcd);
      const back = await lab.until(1, "etcd is not found", ({ store }) => store!.connected);
      assert.equal(back.store!.lastError, null);
    } finally {
      await etcd.close();
    }
  }).then(() => share);
}

async function measure(t: TestContext, absence: Absence): Promise<void> {
  const share = await shareDuring(absence);
  t.diagnostic(`${absence.what}: ${(100 * share).toFixed(2)} % of a processor`);
  assert.ok(share < SHARE_MAX, `${absence.what}: ${share} of a processor`);
}

test("an etcd that is away costs a daemon nearly nothing, and it finds it again", (t) =>
  Promise.all(ABSENCES.map((absence) => measure(t, absence))).then(() => {}));
