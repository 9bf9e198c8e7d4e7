/** Aligned text for terminals. */

/**
 * Text with every control character made visible as `?`: what a peer or a store sent must not
 * drive the terminal.
 */
export function printable(text: string): string {
  // deno-lint-ignore no-control-regex -- control characters are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, "?");
}

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
