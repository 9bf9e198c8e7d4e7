/**
 * Where a text breaks the grammar of JSON (RFC 8259). The runtimes' own parsers report this
 * differently, and one of them without the place.
 */

/** The first fault of a text; line and column begin at 1, columns count UTF-16 code units. */
export interface JsonFault {
  readonly line: number;
  readonly column: number;
  /** Such as `expected "," or "}", found "x"`. */
  readonly why: string;
}

/** How much of what is there in place of the expected is quoted. */
const QUOTED_LENGTH_MAX = 12;

const SPACE = /[ \t\r\n]*/y;
// Control characters must be escaped.
// deno-lint-ignore no-control-regex
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![\w.+-])/y;
const LITERAL = /(?:true|false|null)(?!\w)/y;

/** What may come next. */
type State = "value" | "value or ]" | "key" | "key or }" | "colon" | "after value";

/** How each is called; what may come after a value depends on where that is. */
const EXPECTED: Readonly<Record<Exclude<State, "after value">, string>> = {
  "value": "a value",
  "value or ]": 'a value or "]"',
  "key": "a key in double quotes",
  "key or }": 'a key in double quotes or "}"',
  "colon": '":"',
};

class Scanner {
  #at = 0;
  #state: State = "value";
  /** The objects and arrays around this place. */
  readonly #open: ("{" | "[")[] = [];

  constructor(readonly text: string) {}

  /** Moves past what the pattern finds here; false: it finds nothing. */
  #skip(pattern: RegExp): boolean {
    pattern.lastIndex = this.#at;
    if (!pattern.test(this.text)) return false;
    this.#at = pattern.lastIndex;
    return true;
  }

  /** Takes one token; false: what is here may not come here. */
  #step(): boolean {
    const one = this.text[this.#at];
    const state = this.#state;
    if (state === "after value") return this.#stepAfterValue(one);
    if (state === "colon") {
      this.#state = "value";
      return this.#take(one === ":");
    }
    if (state === "key" || state === "key or }") {
      if (one === "}" && state === "key or }") return this.#close();
      this.#state = "colon";
      return this.#skip(STRING);
    }
    if (one === "]" && state === "value or ]") return this.#close();
    if (one === "{" || one === "[") {
      this.#open.push(one);
      this.#state = one === "{" ? "key or }" : "value or ]";
      return this.#take(true);
    }
    this.#state = "after value";
    return this.#skip(STRING) || this.#skip(NUMBER) || this.#skip(LITERAL);
  }

  #stepAfterValue(one: string | undefined): boolean {
    const inside = this.#open.at(-1);
    if (one === "," && inside !== undefined) {
      this.#state = inside === "{" ? "key" : "value";
      return this.#take(true);
    }
    const isEnd = (one === "}" && inside === "{") || (one === "]" && inside === "[");
    return isEnd && this.#close();
  }

  #take(isRight: boolean): boolean {
    if (isRight) this.#at++;
    return isRight;
  }

  #close(): boolean {
    this.#open.pop();
    this.#state = "after value";
    return this.#take(true);
  }

  #expected(state: State): string {
    if (state !== "after value") return EXPECTED[state];
    const inside = this.#open.at(-1);
    if (inside === undefined) return "the end of the text";
    return inside === "{" ? '"," or "}"' : '"," or "]"';
  }

  /** null: the text is JSON. */
  find(): JsonFault | null {
    while (true) {
      this.#skip(SPACE);
      const state = this.#state;
      const isEnd = this.#at === this.text.length;
      if (isEnd && state === "after value" && this.#open.length === 0) return null;
      if (!isEnd && this.#step()) continue;
      return this.#fault(state);
    }
  }

  #fault(state: State): JsonFault {
    const before = this.text.slice(0, this.#at);
    const line = before.split("\n").length;
    const column = this.#at - (before.lastIndexOf("\n") + 1) + 1;
    const [found] = this.text.slice(this.#at).split(/[\r\n]/, 1);
    const shown = found === ""
      ? "the text ends"
      : `found ${JSON.stringify(found!.slice(0, QUOTED_LENGTH_MAX))}`;
    return { line, column, why: `expected ${this.#expected(state)}, ${shown}` };
  }
}

/** The first place where the text is not JSON; null: it is JSON. */
export function findJsonFault(text: string): JsonFault | null {
  return new Scanner(text).find();
}
