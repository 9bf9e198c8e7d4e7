/** The report as Markdown. */
import {
  type Goal,
  isReached,
  type MeasureId,
  MEASURES,
  medianOf,
  pairedRatioOf,
  type PathResult,
  ratioOf,
  REFERENCE_PATH,
  type Report,
} from "./results.ts";
import { formatNumber, median, relativeSpread } from "./statistics.ts";

/** What is worth comparing with kernel VXLAN: the kernel's daemons are none, so not theirs. */
const RATIO_MEASURES: readonly MeasureId[] = [
  "tcp1",
  "tcp4",
  "udp64",
  "udp1400",
  "latencyP50",
  "latencyP99",
  "machineCpu",
];

/** Quotients of Selvage's own paths that say how well it does. */
const OWN_RATIOS: readonly [path: string, other: string, measure: MeasureId, goal?: Goal][] = [
  ["udp", "udp-no-offload", "tcp1"],
  ["udp", "udp-no-offload", "latencyP50"],
  ["userspace-vxlan", "udp", "tcp1"],
  // The kernel's own devices, made by Selvage and by hand: what is the same costs the same.
  ["selvage-vxlan-kernel", REFERENCE_PATH, "tcp1", { min: 0.97 }],
  ["selvage-vxlan-kernel", REFERENCE_PATH, "udp1400", { min: 0.97 }],
  ["selvage-host-gw", "plain", "tcp1", { min: 0.97 }],
  ["selvage-host-gw", "plain", "udp1400", { min: 0.97 }],
];

/** What must not end a cell or a table. */
function cell(text: string): string {
  return text.replace(/\s+/g, " ").replaceAll("|", "\\|").trim();
}

/** A Markdown table whose columns but the first `leftCount` stand right. */
export function markdownTable(
  titles: readonly string[],
  rows: readonly (readonly string[])[],
  leftCount = 1,
): string {
  const lines = [titles, titles.map((_, i) => i < leftCount ? "---" : "---:"), ...rows];
  return lines.map((line) => `| ${line.map(cell).join(" | ")} |\n`).join("");
}

/** A median and how far the rounds lay around it. */
export function formatSamples(values: readonly number[]): string {
  const spread = values.length > 1 ? relativeSpread(values) : null;
  const percent = spread === null ? "" : ` ±${(spread * 100).toFixed(0)} %`;
  return `${formatNumber(median(values))}${percent}`;
}

function ratioTable(report: Report): string {
  const measures = MEASURES.filter(({ id }) => RATIO_MEASURES.includes(id));
  const titles = measures.map(({ id, title }) => id === "machineCpu" ? "processor time" : title);
  const rows = report.paths.map(({ id, title }) => [
    title,
    ...measures.map((measure) => {
      const ratio = ratioOf(report, id, measure.id);
      return ratio === null ? "–" : ratio.toFixed(2);
    }),
  ]);
  return markdownTable(["path", ...titles], rows);
}

function medianTable(report: Report): string {
  const titles = MEASURES.map(({ title, unit }) => `${title}, ${unit}`);
  const rows = report.paths.map(({ title, samples }) => [
    title,
    ...MEASURES.map(({ id }) => formatSamples(samples[id])),
  ]);
  return markdownTable(["path", ...titles], rows);
}

/** `≤ 500`, and whether it is missed; empty where nothing is required. */
function formatGoal(goal: Goal | undefined, value: number | null): string {
  if (goal === undefined) return "";
  const text = "max" in goal ? `≤ ${goal.max.toLocaleString("en")}` : `≥ ${goal.min}`;
  return value !== null && isReached(goal, value) ? text : `${text}: missed`;
}

function ownRatios(report: Report): string[][] {
  return OWN_RATIOS.flatMap(([path, other, measure, goal]) => {
    const ratio = pairedRatioOf(report, path, measure, other);
    if (ratio === null) return [];
    const name = (id: string) => report.paths.find((one) => one.id === id)!.title;
    const { title } = MEASURES.find((one) => one.id === measure)!;
    return [[
      `${title}: ${name(path)} / ${name(other)}`,
      "ratio",
      ratio.toFixed(2),
      formatGoal(goal, ratio),
    ]];
  });
}

function figureTable(report: Report): string {
  const figures = report.figures.map(({ title, unit, values, goal }) => [
    title,
    unit,
    formatSamples(values),
    formatGoal(goal, median(values)),
  ]);
  const rows = [...ownRatios(report), ...figures];
  return rows.length === 0 ? "" : markdownTable(["figure", "unit", "median", "required"], rows, 2);
}

function setUpList(paths: readonly PathResult[]): string {
  return paths.map(({ title, note }) => `- ${title}: ${note}.\n`).join("");
}

function failureList(report: Report): string {
  const leftOut = report.leftOut.map(({ title, reason }) => `- ${title}: ${cell(reason)}\n`);
  const failed = report.paths.flatMap(({ title, failures }) => {
    return failures.map((failure) => `- ${title}, ${cell(failure)}\n`);
  });
  return [...leftOut, ...failed].join("");
}

function originText(report: Report): string {
  const { coreCount, processor, kernel, memory_GiB } = report.machine;
  const rounds = report.rounds === 1 ? "one round" : `medians of ${report.rounds} rounds`;
  return `Selvage ${report.version} on ${report.date}: ${rounds} of ${report.duration_s} s a ` +
    `test, on ${coreCount} cores of ${processor} with ${memory_GiB} GiB, Linux ${kernel}.\n`;
}

const RATIO_TEXT =
  "Ratios to kernel VXLAN. For throughput, a higher ratio is better; for latency " +
  "and processor time, a lower one.\n";
const MEDIAN_TEXT = "Medians of the rounds; ± is half the distance between the lowest and the " +
  "highest value. UDP: datagrams that arrived, in thousands per second; one " +
  "sender sends them, with one system call for each. Processor time: seconds for " +
  'one gigabyte of one TCP stream. "machine" is the whole machine with the load ' +
  'generator; "daemons" is only the daemons of both hosts. The kernel charges its ' +
  "work for a packet to whichever process runs at that moment, so only the " +
  "figures of the whole machine compare paths. Memory: resident memory of the " +
  "second host's daemon.\n";

const FIGURE_TEXT =
  "Each ratio of two paths is the median of the ratios of the rounds. Memory is " +
  "that of a node that joined and runs the only process of its executable file " +
  "(the registry runs from another file). It is measured just after the join, and " +
  "settled: when the node has given back the memory that the start took (after 5 " +
  "s) and has been idle for a minute (30 samples, one per second). Peers in the " +
  "kernel: the time from leases in memory, through the plan, to the dump that " +
  "shows every route, each time in a new process.\n";

/** Everything in the report, as paragraphs, tables and lists; `chart` is a path for an image. */
export function formatReport(report: Report, chart: string | null): string {
  const hasPaths = report.paths.length > 0;
  const hasReference = report.paths.some(({ id }) => id === REFERENCE_PATH);
  const parts = [
    originText(report),
    hasReference && chart !== null ? `![Ratios to kernel VXLAN](${chart})\n` : "",
    hasReference ? `${RATIO_TEXT}\n${ratioTable(report)}` : "",
    hasPaths ? `${MEDIAN_TEXT}\n${medianTable(report)}` : "",
    report.figures.length > 0 ? `${FIGURE_TEXT}\n${figureTable(report)}` : figureTable(report),
    hasPaths ? `How they were set up:\n\n${setUpList(report.paths)}` : "",
  ];
  const failures = failureList(report);
  if (failures !== "") parts.push(`Left out or failed:\n\n${failures}`);
  return parts.filter((part) => part !== "").join("\n");
}

/** How each path did, for those who look for one number; null while nothing compares. */
export function summary(report: Report): string | null {
  const ratio = ratioOf(report, "udp", "tcp1");
  const median_Gbit_s = medianOf(report, "udp", "tcp1");
  if (ratio === null) return null;
  return `TCP, 1 stream, Selvage udp: ${formatNumber(median_Gbit_s)} Gbit/s, ` +
    `${ratio.toFixed(2)} of kernel VXLAN`;
}
