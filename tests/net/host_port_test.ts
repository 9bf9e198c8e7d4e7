import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { formatHostPort, parseHostPort, parseNamedHostPort } from "../../src/net/host_port.ts";

describe("ADDRESS:PORT", () => {
  test("is read and written", () => {
    const rows: [string, string, number][] = [
      ["10.0.0.1:8286", "10.0.0.1", 8286],
      ["[fd00:0::1]:0", "fd00::1", 0],
      ["0.0.0.0:65535", "0.0.0.0", 65_535],
    ];
    for (const [text, host, port] of rows) {
      assert.deepEqual(parseHostPort(text, "--x"), { host, port });
    }
    assert.equal(formatHostPort({ host: "fd00::1", port: 5 }), "[fd00::1]:5");
    assert.equal(formatHostPort({ host: "10.0.0.1", port: 5 }), "10.0.0.1:5");
  });

  test("a DNS name is read where it may stand, and no mistyped address is taken for one", () => {
    const rows: [string, string, number][] = [
      ["registry.example:8286", "registry.example", 8286],
      ["Registry-1.Example.:1", "registry-1.example", 1],
      ["localhost:1", "localhost", 1],
      ["10.0.0.1:8286", "10.0.0.1", 8286],
      ["[fd00:0::1]:2", "fd00::1", 2],
    ];
    for (const [text, host, port] of rows) {
      assert.deepEqual(parseNamedHostPort(text, "--x"), { host, port });
    }
    const wrong = ["10.0.0:1", "10.0.0.256:1", "1:1", "a..b:1", "-a:1", "a_b:1", "[a.b]:1", "a.b"];
    for (const text of [...wrong, "a.b:65536", `${"a".repeat(64)}:1`]) {
      const error = { code: "invalid_argument", message: /^--x "/ };
      assert.throws(() => parseNamedHostPort(text, "--x"), error, text);
    }
  });

  test("in any other form is refused", () => {
    const wrong = ["", "10.0.0.1", ":80", "10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:080", "[]:1"];
    wrong.push("fd00::1:80", "[10.0.0.1]:80", "localhost:80", "10.0.0.1:80 ", "[fd00::1]", "a:b:c");
    for (const text of wrong) {
      const error = { code: "invalid_argument", message: /^--x "/ };
      assert.throws(() => parseHostPort(text, "--x"), error, text);
    }
  });
});
