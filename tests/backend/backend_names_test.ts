import { test } from "node:test";
import assert from "node:assert/strict";
import { BACKENDS } from "../../src/backend/select.ts";
import { OWN_BACKEND_NAMES } from "../../src/config/backend_names.ts";

test("every backend can be named in a reservation", () => {
  assert.deepEqual(BACKENDS.map(({ type }) => type).sort(), [...OWN_BACKEND_NAMES].sort());
});
