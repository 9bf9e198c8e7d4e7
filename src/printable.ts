/** Text of others made harmless for terminals and logs. */

// deno-lint-ignore no-control-regex -- control characters are what is looked for
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

/**
 * Text with every control character made visible as `?`: what a peer or a store sent must not
 * drive the terminal.
 */
export function printable(text: string): string {
  return text.replace(CONTROLS, "?");
}

function escapeControl(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** A line of JSON text, ended, in which no control character stands as itself. */
export function printableLine(json: string): string {
  return `${json.replace(CONTROLS, escapeControl)}\n`;
}

/** A value as indented JSON text, likewise. */
export function printableJson(value: unknown): string {
  return JSON.stringify(value, null, 2).split("\n").map(printableLine).join("");
}
