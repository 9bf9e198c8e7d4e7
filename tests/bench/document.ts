/** Where the last results stand: a part of docs/benchmarks.md, and the chart beside it. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { drawChart } from "./chart.ts";
import type { Report } from "./results.ts";
import { formatReport } from "./table.ts";

const DOCUMENT = "docs/benchmarks.md";
const CHART = "docs/benchmarks.svg";
const BEGIN = "<!-- results: written by deno task bench --write -->";
const END = "<!-- end of results -->";

const EMPTY_DOCUMENT = `# Benchmarks

\`deno task bench\` builds, for every path, two hosts with a container each in network namespaces of
this machine, and sends from container to container: iperf3 for throughput, a UDP request and its
answer for latency. All paths stand at once and are measured in turn, each round beginning with
another, so that what else the machine does meets all of them alike. All processes share the
machine's cores: absolute numbers differ from machine to machine, ratios less.

## The last results

${BEGIN}
${END}
`;

/** Puts the results between the marks of a document; what is around them stays. */
export function withResults(document: string, results: string): string {
  const [start, end] = [document.indexOf(BEGIN), document.indexOf(END)];
  if (start < 0 || end < start) throw new Error(`no place for results: "${BEGIN}" and "${END}"`);
  const before = document.slice(0, start + BEGIN.length);
  return `${before}\n\n${results.trim()}\n\n${document.slice(end)}`;
}

/** Writes both files, in the form that the formatter wants. Returns their names. */
export function writeDocument(report: Report): string[] {
  const before = existsSync(DOCUMENT) ? readFileSync(DOCUMENT, "utf8") : EMPTY_DOCUMENT;
  writeFileSync(DOCUMENT, withResults(before, formatReport(report, "benchmarks.svg")));
  writeFileSync(CHART, drawChart(report));
  const format = spawnSync(process.execPath, ["fmt", "--quiet", DOCUMENT, CHART]);
  if (format.status !== 0) throw new Error(`deno fmt: ${format.stderr}`);
  return [DOCUMENT, CHART];
}

export { EMPTY_DOCUMENT };
