/** The report of `selvage check` as text for people. */
import type { BackendReport, CheckReport } from "../check/report.ts";
import { printable } from "../printable.ts";
import { renderTable } from "./table.ts";

const COLUMNS = [{ title: "CHECK" }, { title: "RESULT" }, { title: "SEEN" }, { title: "TO DO" }];

/** `works here: udp, host-gw; not: ipip; not known: vxlan (kernel)` */
function backendsText(backends: readonly BackendReport[]): string {
  const part = (title: string, works: boolean | null) => {
    const names = backends.filter((one) => one.works === works).map(({ name }) => name);
    return names.length === 0 ? [] : [`${title}: ${names.join(", ")}`];
  };
  const parts = [...part("works here", true), ...part("not", false), ...part("not known", null)];
  return parts.length === 0 ? "" : `${parts.join("; ")}\n`;
}

export function checkText({ checks, backends, next }: CheckReport): string {
  const rows = checks.map(({ name, result, seen, advice }) => [name, result, seen, advice]);
  return `${renderTable(COLUMNS, rows)}\n${backendsText(backends)}${printable(next)}\n`;
}
