/** The benchmarks' flags. */
import { parseArgs } from "node:util";

export const USAGE = `deno task bench [flags]

  --rounds N        rounds, every path once in each (default 5; with --quick 1)
  --seconds N       of each throughput test (default 5; with --quick 1)
  --idle N          seconds for which an idle node is watched (default 60; with --quick 5)
  --quick           all of it once and short: shows that it works, not how fast it is
  --with LIST       which of Debian's userspace tunnels: names, "all" (installs what is missing) or
                    "none" (default: those that are installed)
  --only LIST       run these parts alone: names of paths, "node", "peers", "etcd", "micro";
                    "guard-on,guard-off" compares the guard's rules with none, with 5,000 peers
  --json FILE       where the results go, every round (default dist/bench.json)
  --write           put tables and chart into docs/benchmarks.md and docs/benchmarks.svg
  --help`;

export interface BenchOptions {
  readonly rounds: number;
  readonly duration_s: number;
  readonly idle_s: number;
  readonly isQuick: boolean;
  /** Names of tunnels, or which of them. */
  readonly with: "installed" | "all" | readonly string[];
  /** null: everything. */
  readonly only: readonly string[] | null;
  readonly jsonFile: string;
  readonly write: boolean;
  readonly help: boolean;
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} is a number from 1`);
  return value;
}

/** Checks each name of a comma-separated list. */
function names(flag: string, text: string, known: readonly string[]): string[] {
  const list = text.split(",").filter((name) => name !== "");
  const unknown = list.filter((name) => !known.includes(name));
  if (unknown.length === 0) return list;
  throw new Error(`--${flag}: no ${unknown.join(", ")}; there is ${known.join(", ")}`);
}

function tunnels(text: string | undefined, known: readonly string[]): BenchOptions["with"] {
  if (text === undefined) return "installed";
  if (text === "all") return "all";
  return text === "none" ? [] : names("with", text, known);
}

/** Reads the flags. Throws an `Error` that says what is wrong with them. */
export function parseOptions(
  args: readonly string[],
  known: { readonly tunnels: readonly string[]; readonly parts: readonly string[] },
): BenchOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: "string" },
      seconds: { type: "string" },
      idle: { type: "string" },
      quick: { type: "boolean", default: false },
      with: { type: "string" },
      only: { type: "string" },
      json: { type: "string", default: "dist/bench.json" },
      write: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const { quick } = values;
  return {
    rounds: positive("rounds", values.rounds ?? (quick ? "1" : "5")),
    duration_s: positive("seconds", values.seconds ?? (quick ? "1" : "5")),
    idle_s: positive("idle", values.idle ?? (quick ? "5" : "60")),
    isQuick: quick,
    with: tunnels(values.with, known.tunnels),
    only: values.only === undefined ? null : names("only", values.only, known.parts),
    jsonFile: values.json,
    write: values.write,
    help: values.help,
  };
}
