import assert from "node:assert/strict";
import { test } from "node:test";
import { SystemError } from "../../ffi/errno.ts";
import { sendUnixDatagram } from "../../ffi/unix_datagram.ts";

test("a socket that is not there is an error that names it", () => {
  assert.throws(
    () => sendUnixDatagram("/run/selvage-test-no-such-socket", "READY=1"),
    (error) =>
      error instanceof SystemError && error.code === "ENOENT" &&
      /selvage-test-no-such-socket/.test(error.message),
  );
  assert.throws(
    () => sendUnixDatagram("@selvage-test-no-such-socket", "READY=1"),
    (error) => error instanceof SystemError && error.code === "ECONNREFUSED",
  );
});
