/**
 * Patterns in the dialect of RE2 (https://github.com/google/re2/wiki/Syntax), which Go has, so that
 * flags of flannel's mean here what they mean there. The library is large, so other modules import
 * this file only when a pattern is given.
 */
import { RE2JS } from "re2js";
import { errorText, SelvageError } from "../errors.ts";

export class Re2Pattern {
  readonly #compiled: RE2JS;

  /** Throws `invalid_argument` that begins with `what` and the pattern if it is none. */
  constructor(readonly text: string, what: string) {
    try {
      this.#compiled = RE2JS.compile(text);
    } catch (error) {
      const why = errorText(error).replace(/^error parsing regexp: /, "");
      throw new SelvageError("invalid_argument", `${what} ${JSON.stringify(text)}: ${why}`, {
        hint: "Give a regular expression of RE2, as for Go: it has no look-around and no " +
          "references to groups.",
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
