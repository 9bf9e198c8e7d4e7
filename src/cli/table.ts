/** Aligned text for terminals. */
import { printable } from "../printable.ts";

/** The columns of a terminal that nobody widened. */
const WIDTH_MAX = 80;

export interface Column {
  /** With several lines, each names the same line of the cells below. */
  readonly title: Cell;
  /** Numbers stand right. */
  readonly align?: "left" | "right";
}

/** One line, or several, such as the addresses of two families. */
export type Cell = string | readonly string[];

export interface Table {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly Cell[])[];
}

const GAP = "  ";

const widthOf = (text: string): number => [...text].length;

function linesOf(cell: Cell): readonly string[] {
  return (typeof cell === "string" ? [cell] : cell).map(printable);
}

/** A table with titles, each line ended; columns as wide as the widest line of their cells. */
export function renderTable(columns: readonly Column[], rows: Table["rows"]): string {
  const cells = [columns.map((column) => column.title), ...rows].map((row) => row.map(linesOf));
  const widths = columns.map((_column, i) =>
    Math.max(...cells.flatMap((row) => (row[i] ?? []).map(widthOf)))
  );
  const pad = (text: string, i: number) => {
    const space = " ".repeat(widths[i]! - widthOf(text));
    return columns[i]!.align === "right" ? space + text : text + space;
  };
  return cells.flatMap((row) => {
    const height = Math.max(...row.map((lines) => lines.length));
    return Array.from({ length: height }, (_, line) => {
      const texts = row.map((lines, i) => pad(lines[line] ?? "", i));
      return `${texts.join(GAP).trimEnd()}\n`;
    });
  }).join("");
}

/** The wide one of two tables with the same contents if it fits a terminal, else the narrow one. */
export function renderFittingTable(wide: Table, narrow: Table): string {
  const text = renderTable(wide.columns, wide.rows);
  const isFitting = text.split("\n").every((line) => widthOf(line) <= WIDTH_MAX);
  return isFitting ? text : renderTable(narrow.columns, narrow.rows);
}

/** The parts with commas between them, in as many lines as a terminal needs. */
function wrapParts(parts: readonly string[], width: number): string[] {
  const lines: string[] = [];
  for (const [i, part] of parts.map(printable).entries()) {
    const text = i === parts.length - 1 ? part : `${part},`;
    const last = lines.at(-1);
    if (last === undefined || widthOf(last) + 1 + widthOf(text) > width) lines.push(text);
    else lines[lines.length - 1] = `${last} ${text}`;
  }
  return lines;
}

/**
 * Names and values, one pair a line; a pair whose value is null is left out. A value in parts is
 * wrapped between them if it does not fit a terminal; a text is never wrapped.
 */
export function renderPairs(pairs: readonly (readonly [string, Cell | null])[]): string {
  const shown = pairs.filter((pair): pair is [string, Cell] => pair[1] !== null);
  const nameWidth = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => {
    const width = WIDTH_MAX - nameWidth - GAP.length;
    const lines = typeof value === "string" ? [printable(value)] : wrapParts(value, width);
    return lines.map((line, i) => `${(i === 0 ? name : "").padEnd(nameWidth)}${GAP}${line}\n`)
      .join("");
  }).join("");
}
