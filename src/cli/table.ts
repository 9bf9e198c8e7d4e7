/** Aligned text for terminals. */
import { printable } from "../printable.ts";

export interface Column {
  readonly title: string;
  /** Numbers stand right. */
  readonly align?: "left" | "right";
}

const GAP = "  ";

/** A table with a line of titles, each line ended; columns as wide as their widest cell. */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
): string {
  const lines = [columns.map((column) => column.title), ...rows].map((row) => row.map(printable));
  const widths = columns.map((_column, i) =>
    Math.max(...lines.map((line) => [...(line[i] ?? "")].length))
  );
  const pad = (cell: string, i: number) => {
    const space = " ".repeat(widths[i]! - [...cell].length);
    return columns[i]!.align === "right" ? space + cell : cell + space;
  };
  return lines.map((line) => `${line.map(pad).join(GAP).trimEnd()}\n`).join("");
}

/** Names and values, one pair a line; a pair whose value is null is left out. */
export function renderPairs(pairs: readonly (readonly [string, string | null])[]): string {
  const shown = pairs.filter((pair): pair is [string, string] => pair[1] !== null);
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}${GAP}${printable(value)}\n`).join("");
}
