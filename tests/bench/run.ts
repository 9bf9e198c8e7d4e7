/**
 * Measures the data plane against plain routing, the kernel's VXLAN and other userspace tunnels:
 * every path stands at once, each round runs all of them in another order, and medians count.
 * Progress is on stderr; the tables are on stdout. Flags: `USAGE` in options.ts.
 *
 *     deno task bench [--quick] [--rounds N] [--with fastd,tinc|all|none] [--write]
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { requireCapabilities, requireTun } from "../../src/agent/preflight.ts";
import { errorText } from "../../src/errors.ts";
import { VERSION } from "../../src/version.ts";
import { BENCH_PACKAGES, installMissing, missingPrograms, preparePackages } from "../packages.ts";
import { untilAnswered } from "./answer.ts";
import { writeDocument } from "./document.ts";
import { measureEtcd } from "./etcd_figures.ts";
import { describeMachine } from "./machine.ts";
import { measureRound } from "./measure.ts";
import { measureMicro } from "./micro.ts";
import { measureNode } from "./node_figures.ts";
import { type BenchOptions, parseOptions, USAGE } from "./options.ts";
import { OWN_PATHS, TUNNELS } from "./paths/all.ts";
import type { BenchPath, RunningPath } from "./paths/path.ts";
import { measurePeers } from "./peers.ts";
import { emptyResult, type Figure, type LeftOut, type PathResult, type Report } from "./results.ts";
import { rotate } from "./statistics.ts";
import { formatReport, summary } from "./table.ts";

/** What a shell reports of a program that SIGINT ended. */
const EXIT_INTERRUPTED = 130;
const EXIT_USAGE = 2;
/** A tunnel may take its time to find its peer. */
const FIRST_ANSWER_TIMEOUT_S = 20;

const start_ms = performance.now();

function say(text: string): void {
  const seconds = ((performance.now() - start_ms) / 1000).toFixed(0).padStart(4);
  console.error(`${seconds} s  ${text}`);
}

interface Contender {
  readonly path: RunningPath;
  readonly result: PathResult;
}

class Bench {
  readonly #options: BenchOptions;
  readonly #signal: AbortSignal;
  readonly #contenders: Contender[] = [];
  readonly #leftOut: LeftOut[] = [];

  constructor(options: BenchOptions, signal: AbortSignal) {
    this.#options = options;
    this.#signal = signal;
  }

  #isWanted(part: string): boolean {
    return this.#options.only?.includes(part) ?? true;
  }

  #leaveOut(title: string, reason: string): void {
    say(`left out: ${title}: ${reason}`);
    this.#leftOut.push({ title, reason });
  }

  /** Why a path cannot be built, having tried to install what it needs if that was asked for. */
  #obstacle(path: BenchPath): string | null {
    const isAskedFor = this.#options.with !== "installed" || this.#options.only !== null;
    const missing = isAskedFor ? installMissing(path.packages) : missingPrograms(path.packages);
    if (missing.length === 0) return path.obstacle();
    return isAskedFor ? `${missing.join(", ")} could not be installed` : "not installed";
  }

  #candidates(): BenchPath[] {
    const { with: wanted, only } = this.#options;
    const isNamed = (path: BenchPath) => Array.isArray(wanted) ? wanted.includes(path.id) : true;
    const tunnels = only === null ? TUNNELS.filter(isNamed) : TUNNELS;
    return [...OWN_PATHS, ...tunnels].filter((path) =>
      only === null ? !path.isOnDemand : only.includes(path.id)
    );
  }

  async #setUp(): Promise<void> {
    for (const candidate of this.#candidates()) {
      this.#signal.throwIfAborted();
      const obstacle = this.#obstacle(candidate);
      if (obstacle !== null) {
        this.#leaveOut(candidate.title, obstacle);
        continue;
      }
      try {
        const path = await candidate.setUp(this.#signal);
        this.#contenders.push({ path, result: emptyResult(candidate) });
        await untilAnswered(path, FIRST_ANSWER_TIMEOUT_S, this.#signal);
        say(`${candidate.title} stands`);
      } catch (error) {
        this.#signal.throwIfAborted();
        const failed = this.#contenders.findIndex(({ result }) => result.id === candidate.id);
        for (const { path } of failed < 0 ? [] : this.#contenders.splice(failed, 1)) {
          await path.close();
        }
        this.#leaveOut(candidate.title, errorText(error));
      }
    }
  }

  async #measurePaths(): Promise<void> {
    const { rounds, duration_s, isQuick } = this.#options;
    const count = this.#contenders.length;
    for (let round = 0; round < rounds; round++) {
      for (const [i, { path, result }] of rotate(this.#contenders, round).entries()) {
        const where = `round ${round + 1}/${rounds}, path ${i + 1}/${count}, ${result.title}`;
        await measureRound(path, result, {
          round: round + 1,
          duration_s,
          isQuick,
          signal: this.#signal,
          say: (text) => say(`${where}: ${text}`),
        });
      }
    }
  }

  /** The figures beside the paths; one that fails is left out, with the reason. */
  async #measureFigures(): Promise<Figure[]> {
    const signal = this.#signal;
    const { rounds, idle_s } = this.#options;
    const works: [part: string, work: () => Promise<Figure[]>][] = [
      ["node", () => measureNode({ idle_s, signal, say })],
      ["peers", () => measurePeers({ rounds, signal, say })],
      ["etcd", () => measureEtcd({ rounds, signal, say })],
      ["micro", () => measureMicro({ rounds, signal, say, leftOut: this.#leftOut })],
    ];
    const figures: Figure[] = [];
    for (const [part, work] of works) {
      signal.throwIfAborted();
      if (!this.#isWanted(part)) continue;
      try {
        figures.push(...await work());
      } catch (error) {
        signal.throwIfAborted();
        this.#leaveOut(part, errorText(error));
      }
    }
    return figures;
  }

  async #closePaths(): Promise<void> {
    await Promise.all(this.#contenders.map(({ path }) => path.close()));
  }

  /** Measures all that was asked for; nothing of it is left, whatever happens. */
  async run(): Promise<Report> {
    try {
      await this.#setUp();
      await this.#measurePaths();
    } finally {
      await this.#closePaths();
    }
    const figures = await this.#measureFigures();
    return {
      date: new Date().toISOString().slice(0, 10),
      version: VERSION,
      machine: describeMachine(),
      rounds: this.#options.rounds,
      duration_s: this.#options.duration_s,
      paths: this.#contenders.map(({ result }) => result),
      leftOut: this.#leftOut,
      figures,
    };
  }
}

function readOptions(): BenchOptions {
  const tunnels = TUNNELS.map(({ id }) => id);
  const parts = [...OWN_PATHS.map(({ id }) => id), ...tunnels, "node", "peers", "etcd", "micro"];
  try {
    return parseOptions(process.argv.slice(2), { tunnels, parts });
  } catch (error) {
    console.error(`${errorText(error)}\n\n${USAGE}`);
    process.exit(EXIT_USAGE);
  }
}

async function main(options: BenchOptions): Promise<number> {
  const ending = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(name, () => ending.abort());
  }
  requireCapabilities("deno task bench", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_NET_RAW");
  requireTun();
  if (!preparePackages(BENCH_PACKAGES)) return 1;
  const build = spawnSync(process.execPath, ["run", "-A", "compile.ts"], { stdio: [0, 2, 2] });
  if (build.status !== 0) return 1;
  try {
    const report = await new Bench(options, ending.signal).run();
    mkdirSync(dirname(options.jsonFile), { recursive: true });
    writeFileSync(options.jsonFile, `${JSON.stringify(report, null, 2)}\n`);
    console.log(formatReport(report, null));
    const written = options.write ? writeDocument(report) : [];
    say(`written: ${[options.jsonFile, ...written].join(", ")}`);
    const line = summary(report);
    if (line !== null) say(line);
    return 0;
  } catch (error) {
    if (!ending.signal.aborted) throw error;
    say("interrupted; nothing is left behind");
    return EXIT_INTERRUPTED;
  }
}

const options = readOptions();
if (options.help) console.log(USAGE);
else process.exit(await main(options));
