import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY_DOCUMENT, withResults } from "./document.ts";

test("results stand between the marks, and what is around them stays", () => {
  const document = EMPTY_DOCUMENT.replace("## The last", "Own words.\n\n## The last") +
    "\n## What was tried\n";
  const first = withResults(document, "first results\n");
  assert.match(first, /Own words[^]*-->\n\nfirst results\n\n<!--[^]*## What was tried\n$/);
  assert.equal(withResults(first, "second results"), first.replace("first", "second"));
});

test("a document without the marks is left alone", () => {
  assert.throws(() => withResults("# Benchmarks\n", "results"), /no place for results/);
});
