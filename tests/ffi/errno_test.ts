import assert from "node:assert/strict";
import { test } from "node:test";
import { errnoName, errnoNumber, errnoText, SystemError } from "../../ffi/errno.ts";

test("numbers have the kernel's names", () => {
  assert.equal(errnoName(1), "EPERM");
  assert.equal(errnoName(11), "EAGAIN");
  assert.equal(errnoName(77), "EBADFD");
  assert.equal(errnoName(98), "EADDRINUSE");
  assert.equal(errnoName(4711), "errno 4711");
  assert.equal(errnoText(4711), "unknown error");
});

test("names have their numbers", () => {
  for (const [name, number] of [["ENOENT", 2], ["EBUSY", 16], ["ENOBUFS", 105]] as const) {
    assert.equal(errnoNumber(name), number);
  }
  assert.throws(() => errnoNumber("ENOSUCH"), /ENOSUCH is no errno/);
});

test("a SystemError says what was tried and why it failed", () => {
  const error = new SystemError("bind 10.0.0.1:8285/udp", 98);
  assert.equal(error.message, "bind 10.0.0.1:8285/udp: EADDRINUSE (address already in use)");
  assert.equal(error.code, "EADDRINUSE");
  assert.equal(error.errno, 98);
});
