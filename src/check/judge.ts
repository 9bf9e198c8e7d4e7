/** From what was seen of a host to the report: pure. */
import type { ConfigFacts, HostFacts, PlaceFacts } from "./facts.ts";
import { type Judged, judgeKernel } from "./judge_kernel.ts";
import { judgeNetworkFacts } from "./judge_network.ts";
import { judgeOthers } from "./judge_others.ts";
import {
  type BackendName,
  type BackendReport,
  BACKENDS,
  type CheckReport,
  type CheckRow,
} from "./report.ts";

/** A clock before this was never set: no version of ours is older. */
const CLOCK_MIN_MS = Date.UTC(2025, 0, 1);
/** Files come from the same clock, read a little later. */
const CLOCK_SLACK_MS = 60_000;

const FLAGS: Readonly<Record<PlaceFacts["name"], string>> = {
  "state directory": "--state-dir",
  "subnet file": "--subnet-file",
  "API socket": "--api-socket",
};

function judgePlace({ name, path, trial }: PlaceFacts): Judged {
  if (trial.state === "works") return { name, result: "ok", seen: `${path}, writable`, advice: "" };
  const hint = trial.state === "refused" ? trial.hint : undefined;
  const advice = hint === undefined
    ? `Let this user write there, or set ${FLAGS[name]}.`
    : `${hint} Or set ${FLAGS[name]}.`;
  const seen = trial.why.includes(path) ? trial.why : `${path}: ${trial.why}`;
  return { name, result: "missing", seen, advice, blocks: BACKENDS };
}

function judgeClock({ clock }: HostFacts): Judged {
  const name = "clock";
  const { now_ms, isSynchronised, newestState_ms } = clock;
  const seen = new Date(now_ms).toISOString().replace(/\.\d+Z$/, "Z");
  const advice = "Set the clock: leases and certificates depend on it.";
  if (now_ms < CLOCK_MIN_MS) return { name, result: "warning", seen: `${seen}, not set`, advice };
  if (newestState_ms !== null && newestState_ms > now_ms + CLOCK_SLACK_MS) {
    const behind = `${seen}, before the state directory was written`;
    return { name, result: "warning", seen: behind, advice };
  }
  if (isSynchronised === false) {
    const loose = `${seen}, not synchronised by a time service`;
    return { name, result: "warning", seen: loose, advice: "Run a time service (NTP)." };
  }
  return { name, result: "ok", seen, advice: "" };
}

function judgeConfig(config: ConfigFacts | null): Judged[] {
  if (config === null) return [];
  const name = "configuration";
  const { where, type, refusal, warnings } = config;
  if (refusal === null && warnings.length > 0) {
    const advice = "Correct the file, or leave it as it is: Selvage ignores this.";
    return [{ name, result: "warning", seen: warnings.join("; "), advice }];
  }
  if (refusal === null && type === "extension") {
    const advice = "Its commands run on this host only with --allow-extension of selvage run.";
    return [{ name, result: "warning", seen: `${where}: ${type}`, advice }];
  }
  if (refusal === null) return [{ name, result: "ok", seen: `${where}: ${type}`, advice: "" }];
  return [{ name, result: "missing", seen: refusal.why, advice: refusal.hint, blocks: BACKENDS }];
}

function judgeEtcd(etcd: HostFacts["etcd"]): Judged[] {
  if (etcd === null) return [];
  const { endpoints, problem } = etcd;
  const name = "etcd";
  if (problem === null) return [{ name, result: "ok", seen: `${endpoints}, writable`, advice: "" }];
  return [{ name, result: "missing", seen: problem.why, advice: problem.hint, blocks: BACKENDS }];
}

/** How to start what was checked. */
function startCommand({ config, etcd }: HostFacts): string {
  if (etcd !== null) return `selvage run --etcd-endpoints ${etcd.endpoints}`;
  return config === null ? "selvage run --help" : `selvage run --net-config ${config.where}`;
}

/** The backends that a configuration may lead to. */
function backendsOf(config: ConfigFacts | null): readonly BackendName[] {
  if (config === null) return BACKENDS;
  if (config.type !== "vxlan") return BACKENDS.filter((name) => name === config.type);
  const both = ["vxlan (userspace)", "vxlan (kernel)"] as const;
  const named = both.filter((name) => name === `vxlan (${config.datapath})`);
  return named.length > 0 ? named : both;
}

function judgeBackend(name: BackendName, rows: readonly Judged[]): BackendReport {
  const reason = (row: Judged) => `${row.name}: ${row.seen}`;
  const blocking = rows.find(({ blocks }) => blocks?.includes(name));
  if (blocking !== undefined) return { name, works: false, reason: reason(blocking) };
  const open = rows.find(({ leavesOpen }) => leavesOpen?.includes(name));
  if (open !== undefined) return { name, works: null, reason: reason(open) };
  return { name, works: true, reason: "" };
}

/** One of the sentences that end the report. */
function nextStep(
  facts: HostFacts,
  rows: readonly Judged[],
  names: readonly BackendName[],
  ready: boolean,
): string {
  if (!ready) {
    // What stops most of those in question is to be mended first, and else what stops most. What
    // only may be in the way, such as a port that may be our own, comes after what is.
    const stops = ({ blocks = [] }: Judged) =>
      blocks.filter((name) => names.includes(name)).length * BACKENDS.length + blocks.length;
    const missing = rows.filter((row) => row.result === "missing" && stops(row) > 0);
    const candidates = missing.length > 0 ? missing : rows;
    const first = candidates.toSorted((a, b) => stops(b) - stops(a))[0]!;
    return `Mend this first, then check again: ${first.name}. ${first.advice}`.trim();
  }
  const isOpen = rows.some(({ seen }) => seen.includes("not looked at"));
  if (isOpen) return "Run it as root to look at the rest, or start: selvage run --help";
  const warningCount = rows.filter(({ result }) => result !== "ok").length;
  const start = startCommand(facts);
  if (warningCount === 0) return `Nothing is missing; start with: ${start}`;
  return `Read the warnings above, then start with: ${start}`;
}

function toRow({ name, result, seen, advice }: Judged): CheckRow {
  return { name, result, seen, advice };
}

export function judge(facts: HostFacts): CheckReport {
  const rows = [
    ...judgeEtcd(facts.etcd),
    ...judgeConfig(facts.config),
    ...judgeKernel(facts),
    ...judgeNetworkFacts(facts),
    ...judgeOthers(facts),
    ...facts.places.map(judgePlace),
    judgeClock(facts),
  ];
  const names = backendsOf(facts.config);
  const backends = names.map((name) => judgeBackend(name, rows));
  const isStopped = rows.some(({ blocks }) => blocks?.length === BACKENDS.length);
  // A backend that is none of the five (alloc, extension) needs what all of them need.
  const ready = !isStopped &&
    (backends.length === 0 || backends.some(({ works }) => works !== false));
  return { ready, checks: rows.map(toRow), backends, next: nextStep(facts, rows, names, ready) };
}
