/** The demo's result, for people and for machines. */
import { renderTable } from "../cli/table.ts";
import { printable } from "../printable.ts";
import type { PingReport, TransferReport } from "./measure.ts";

export interface DemoReport {
  readonly ok: boolean;
  readonly hostCount: number;
  readonly backend: string;
  readonly duration_ms: number;
  readonly hosts: readonly {
    readonly name: string;
    readonly outerAddress: string;
    readonly subnet: string;
    readonly container: string;
  }[];
  readonly pings: readonly PingReport[];
  readonly transfers: readonly TransferReport[];
}

/** The pings as a matrix of median round trips: a row the sender, a column the receiver. */
export function formatPings(hosts: readonly string[], pings: readonly PingReport[]): string {
  const cell = (from: string, to: string): string => {
    if (from === to) return "·";
    const report = pings.find((one) => one.from === from && one.to === to);
    if (report === undefined || report.median_ms === null) return "LOST";
    const lost = report.sent - report.received;
    const how = lost === report.lostByDesign ? ", as generation 1 does" : "";
    return `${report.median_ms.toFixed(2)} ms${lost > 0 ? ` (${lost} lost${how})` : ""}`;
  };
  const rows = hosts.map((from) => [from, ...hosts.map((to) => cell(from, to))]);
  return renderTable([{ title: "ping" }, ...hosts.map((title) => ({ title }))], rows);
}

export function formatTransfers(transfers: readonly TransferReport[]): string {
  const rows = transfers.map((one) => [
    `${one.from} → ${one.to}`,
    `${(one.size_bytes / 2 ** 20).toFixed(0)} MiB`,
    `${(one.duration_ms / 1000).toFixed(2)} s`,
    `${one.rate_mbit_s.toFixed(0)} Mbit/s`,
    one.ok ? `identical, ${one.receivedSha256.slice(0, 12)}…` : one.error ?? "DIFFERENT",
  ]);
  const titles = ["TCP transfer", "size", "time", "rate", "SHA-256 at both ends"];
  return renderTable(titles.map((title) => ({ title })), rows);
}

/** One sentence for when all is well. */
export function formatSuccess(
  { pings, transfers }: Pick<DemoReport, "pings" | "transfers">,
): string {
  const lost = pings.reduce((sum, ping) => sum + ping.lostByDesign, 0);
  const but = lost === 0
    ? ""
    : `, except for ${lost} first ${lost === 1 ? "packet" : "packets"}, which generation 1 loses`;
  return `All ${pings.length} pings and ${transfers.length} transfers arrived${but}.`;
}

/** What went wrong, a line each; empty when nothing did. */
export function formatFailures(report: Pick<DemoReport, "pings" | "transfers">): string {
  return [...report.pings, ...report.transfers]
    .filter((one) => one.error !== null)
    .map((one) => `${one.from} → ${one.to}: ${printable(one.error ?? "")}\n`)
    .join("");
}
