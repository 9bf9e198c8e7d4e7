/** Keys that stand twice in one object of a JSON text, which a parser passes over. Pure. */

/** Strings, and what opens, ends or divides objects and arrays; all of it one after another. */
const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\]:]/gs;

interface Level {
  /** null in an array. */
  readonly names: Set<string> | null;
  /** What goes before the keys, such as `Backend.`. */
  readonly prefix: string;
}

/**
 * The keys that are not the first of their name, as written, with those of the objects that they
 * are in: `Backend.Port`. Case does not matter, as to Go. `text` must be JSON.
 */
export function repeatedKeys(text: string): string[] {
  const found: string[] = [];
  const levels: Level[] = [];
  /** The string read last: at a colon it is the key. */
  let last = "";
  /** The key whose value comes. */
  let key = "";
  for (const [token] of text.matchAll(TOKENS)) {
    const level = levels.at(-1);
    if (token === "{" || token === "[") {
      const prefix = level?.names ? `${level.prefix}${key}.` : level?.prefix ?? "";
      levels.push({ names: token === "{" ? new Set() : null, prefix });
    } else if (token === "}" || token === "]") {
      levels.pop();
    } else if (token !== ":") {
      last = token;
    } else if (level?.names) {
      key = JSON.parse(last) as string;
      const name = key.toLowerCase();
      if (level.names.has(name)) found.push(`${level.prefix}${key}`);
      level.names.add(name);
    }
  }
  return found;
}
