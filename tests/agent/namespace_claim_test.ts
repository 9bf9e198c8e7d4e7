import assert from "node:assert/strict";
import { test } from "node:test";
import { NamespaceName } from "../../ffi/namespace_name.ts";
import { claimNamespace } from "../../src/agent/namespace_claim.ts";
import { hasCode } from "../../src/errors.ts";

const NAME = `selvage-test-claim-${process.pid}`;
const NOBODY = 65534;

test("a namespace is claimed once, and may be again after that", () => {
  const claim = claimNamespace(NAME);
  assert.throws(
    () => claimNamespace(NAME),
    (error) => hasCode(error, "conflict") && String(error).includes(`pid ${process.pid}`),
  );
  claim!.close();
  claimNamespace(NAME)!.close();
});

test("a process that could not be a selvage keeps nobody from starting by having the name", () => {
  const taken = NamespaceName.take(NAME)!;
  try {
    assert.equal(claimNamespace(NAME, () => ({ pid: 7, uid: NOBODY })), null);
    // It is bound, and does not listen.
    assert.equal(claimNamespace(NAME, () => null), null);
  } finally {
    taken.close();
  }
});
