/**
 * Patterns in the dialect of RE2 (https://github.com/google/re2/wiki/Syntax), which Go has, so that
 * flags of flannel's mean here what they mean there. The library is large, so other modules import
 * this file only when a pattern is given.
 */
import { RE2JS } from "re2js";
import { errorText, SelvageError } from "../errors.ts";

/** Constructs of Perl that RE2 leaves out, by how they begin in a pattern. */
const ABSENT: readonly (readonly [start: RegExp, name: string])[] = [
  [/^\(\?<[=!]/, "look-behind"],
  [/^\(\?[=!]/, "look-ahead"],
  [/^\(\?>/, "atomic groups"],
  [/^\(\?\(/, "conditions"],
  [/^(\\[1-9kg]|\(\?P=)/, "references to groups"],
  [/^[*+?}]\+/, "possessive repetition"],
];

/** The library's reason, with the name of the construct that RE2 does not have. */
function faultText(error: unknown): string {
  const why = errorText(error).replace(/^error parsing regexp: /, "");
  const [, quoted = ""] = /`(.*)`$/s.exec(why) ?? [];
  const [, absent] = ABSENT.find(([start]) => start.test(quoted)) ?? [];
  if (absent === undefined) return why;
  // The library mistakes look-behind for the name of a group.
  if (absent === "look-behind") return `RE2 has no look-behind: \`${quoted.slice(0, 4)}\``;
  return `${why} (RE2 has no ${absent})`;
}

export class Re2Pattern {
  readonly #compiled: RE2JS;

  /** Throws `invalid_argument` that begins with `what` and the pattern if it is none. */
  constructor(readonly text: string, what: string) {
    try {
      this.#compiled = RE2JS.compile(text);
    } catch (error) {
      const why = faultText(error);
      throw new SelvageError("invalid_argument", `${what} ${JSON.stringify(text)}: ${why}`, {
        hint:
          "Give a regular expression in the syntax of RE2, as in Go: it has no look-ahead, no " +
          "look-behind and no references to groups.",
        cause: error,
      });
    }
  }

  /** Whether the pattern fits some part of the text, in time linear to its length. */
  matches(text: string): boolean {
    return this.#compiled.matcher(text).find();
  }

  toString(): string {
    return this.text;
  }

  toJSON(): string {
    return this.text;
  }
}
