/** What a new configuration changes, key by key. Pure. */

/** One key that differs, as JSON texts; null: it is not there. */
export interface ConfigChange {
  /** Such as `SubnetLen` or `Backend.Port`. */
  readonly key: string;
  readonly now: string | null;
  readonly next: string | null;
}

/** The values by their keys, those of objects by all on the way to them. */
function flatten(value: object, prefix = ""): Map<string, string> {
  const values = new Map<string, string>();
  for (const [name, item] of Object.entries(value)) {
    const key = `${prefix}${name}`;
    if (typeof item !== "object" || item === null || Array.isArray(item)) {
      values.set(key, JSON.stringify(item));
    } else {
      for (const [inner, text] of flatten(item, `${key}.`)) values.set(inner, text);
    }
  }
  return values;
}

/** What differs, in the order of the new one's keys, then what is gone; `now` null: none yet. */
export function configChanges(now: object | null, next: object): ConfigChange[] {
  const old = now === null ? new Map<string, string>() : flatten(now);
  const fresh = flatten(next);
  const keys = new Set([...fresh.keys(), ...old.keys()]);
  return [...keys].filter((key) => old.get(key) !== fresh.get(key)).map((key) => ({
    key,
    now: old.get(key) ?? null,
    next: fresh.get(key) ?? null,
  }));
}
