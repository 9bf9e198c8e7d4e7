import assert from "node:assert/strict";
import { test } from "node:test";
import { pairedRatioOf, ratioOf } from "./results.ts";
import { samplePath, sampleReport } from "./sample.ts";
import { formatReport, formatSamples, markdownTable, summary } from "./table.ts";

/** The cells of the row that begins with this title, in the table after this text. */
function row(report: string, after: string, title: string): string[] {
  const table = report.slice(report.indexOf(after));
  const line = table.split("\n").find((one) => one.startsWith(`| ${title} |`));
  assert.ok(line, `no row ${title} after ${after}`);
  return line.split("|").slice(2, -1).map((cell) => cell.trim());
}

test("a table has a row of rules, and numbers stand right", () => {
  const expected = "| a | b |\n| --- | ---: |\n| x | 1 |\n";
  assert.equal(markdownTable(["a", "b"], [["x", "1"]]), expected);
});

test("no cell can end its row or the table", () => {
  const table = markdownTable(["a"], [["one\ntwo | three"]]);
  assert.equal(table.split("\n")[2], "| one two \\| three |");
});

test("ratios are quotients of medians, and what is missing is a dash", () => {
  const report = sampleReport();
  assert.equal(ratioOf(report, "udp", "tcp1"), 0.7);
  assert.equal(ratioOf(report, "udp", "udp64"), null);
  assert.equal(ratioOf(report, "nobody", "tcp1"), null);
  const ratios = row(formatReport(report, null), "Ratios to kernel VXLAN", "Selvage udp");
  assert.deepEqual(ratios, ["0.70", "–", "–", "–", "1.50", "–", "–"]);
});

test("a quotient of two paths is the median of the rounds', unless one failed", () => {
  // Both halved in the second round: what else the machine did.
  const reference = samplePath("plain", { tcp1: [10, 5, 11], udp1400: [4, 0] });
  const path = samplePath("selvage-host-gw", { tcp1: [9.9, 5, 11.11], udp1400: [2] });
  const report = sampleReport({ paths: [reference, path] });
  assert.equal(pairedRatioOf(report, path.id, "tcp1", "plain"), 1);
  assert.equal(pairedRatioOf(report, path.id, "udp1400", "plain"), 1);
  assert.equal(pairedRatioOf(report, path.id, "udp64", "plain"), null);
  assert.equal(pairedRatioOf(report, "nobody", "tcp1", "plain"), null);
});

test("medians come with their spread where there is more than one round", () => {
  assert.equal(formatSamples([9, 10, 11]), "10.0 ±10 %");
  assert.equal(formatSamples([9]), "9.00");
  assert.equal(formatSamples([]), "–");
  const medians = row(formatReport(sampleReport(), null), "Medians", "kernel VXLAN");
  assert.deepEqual(medians.slice(0, 2), ["10.0 ±10 %", "–"]);
});

test("without kernel VXLAN there are medians and no ratios", () => {
  const report = sampleReport({ paths: [samplePath("udp", { tcp1: [5] })] });
  const text = formatReport(report, "chart.svg");
  assert.ok(!text.includes("Ratios to kernel VXLAN"), text);
  assert.equal(row(text, "Medians", "UDP")[0], "5.00");
  assert.equal(summary(report), null);
});

test("Selvage's own ratios are given where both paths were measured", () => {
  const { paths } = sampleReport();
  const slow = samplePath("udp-no-offload", { tcp1: [0.5] }, "no offload");
  const text = formatReport(sampleReport({ paths: [...paths, slow] }), null);
  const own = row(text, "| figure |", "TCP, 1 stream: Selvage udp / no offload");
  assert.deepEqual(own, ["ratio", "14.00", ""]);
});

test("what is required stands beside the figure, and that it is missed", () => {
  const { paths } = sampleReport();
  const own = samplePath("selvage-vxlan-kernel", { tcp1: [9.8], udp1400: [5] }, "own");
  const reference = { ...paths[0]!, samples: { ...paths[0]!.samples, udp1400: [10] } };
  const figure = (title: string, values: number[]) => ({
    title,
    unit: "ms",
    values,
    goal: { max: 6_000 },
  });
  const text = formatReport(
    sampleReport({
      paths: [reference, own],
      figures: [figure("quick", [5_999, 7_000, 1]), figure("slow", [6_001]), figure("none", [])],
    }),
    null,
  );
  const cells = (title: string) => row(text, "| figure |", title).slice(1);
  assert.deepEqual(cells("TCP, 1 stream: own / kernel VXLAN"), ["0.98", "≥ 0.97"]);
  assert.deepEqual(cells("UDP, 1400 bytes: own / kernel VXLAN"), ["0.50", "≥ 0.97: missed"]);
  assert.equal(cells("quick")[1], "≤ 6,000");
  assert.equal(cells("slow")[1], "≤ 6,000: missed");
  assert.equal(cells("none")[1], "≤ 6,000: missed");
});

test("what was left out and what failed is told, with the machine and the rounds", () => {
  const { paths } = sampleReport();
  const failing = { ...paths[1]!, failures: ["round 2, udp64: broken\npipe"] };
  const text = formatReport(
    sampleReport({
      paths: [paths[0]!, failing],
      leftOut: [{ title: "fastd", reason: "not installed" }],
      figures: [{ title: "look-up", unit: "million/s", values: [100, 300, 200] }],
    }),
    "chart.svg",
  );
  assert.match(
    text,
    /^Selvage 1\.2\.3 on 2026-01-31: medians of 5 rounds of 3 s a test, on 2 cores/,
  );
  assert.match(text, /^- fastd: not installed$/m);
  assert.match(text, /^- Selvage udp, round 2, udp64: broken pipe$/m);
  assert.match(text, /^!\[.*\]\(chart\.svg\)$/m);
  assert.match(text, /^- kernel VXLAN: how kernel-vxlan is set up\.$/m);
  assert.deepEqual(row(text, "| figure |", "look-up"), ["million/s", "200 ±50 %", ""]);
});
