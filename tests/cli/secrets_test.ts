import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { maskSecrets, restoreSecrets, withoutJoinStrings } from "../../src/cli/secrets.ts";

describe("secrets of the command line", () => {
  const ROWS: [typed: string, masked: string, secrets: string[]][] = [
    ["run --join selvage1.abc", "run --join ***", ["selvage1.abc"]],
    ["run -join=selvage1.abc -v 1", "run --join=*** -v 1", ["selvage1.abc"]],
    ["run --join @/etc/join", "run --join @/etc/join", []],
    ["run -join=@/etc/join", "run -join=@/etc/join", []],
    [
      "flanneld -etcd-password=a --etcd-username u",
      "flanneld --etcd-password=*** --etcd-username u",
      ["a"],
    ],
    ["leases list --token t --etcd-password p", "leases list --token *** --etcd-password ***", [
      "t",
      "p",
    ]],
    ["run --etcd-password-file /f", "run --etcd-password-file /f", []],
    // The value of a flag may look like a flag.
    ["run --join --join x", "run --join *** x", ["--join"]],
    ["token create", "token create", []],
    ["run --join", "run --join", []],
    ["run --join=", "run --join=", []],
  ];
  for (const [typed, masked, secrets] of ROWS) {
    test(typed, () => {
      const words = typed.split(" ");
      const result = maskSecrets(words);
      assert.deepEqual(result, { masked: masked.split(" "), secrets });
      const restored = restoreSecrets(result.masked, JSON.stringify(secrets));
      assert.deepEqual(
        restored.map((word) => word.replace(/^--?/, "-")),
        words.map((word) => word.replace(/^--?/, "-")),
      );
    });
  }

  test("a join string in an error cannot be read", () => {
    assert.equal(
      withoutJoinStrings('no such command: "selvage1.c2VjcmV0LXNlY3JldA-_x", see selvage1.conf'),
      'no such command: "selvage1.***", see selvage1.conf',
    );
  });

  test("a variable that another program set changes nothing", () => {
    for (const text of ["", "no JSON", "[]", "7"]) {
      assert.deepEqual(restoreSecrets(["run", "--join", "x"], text), ["run", "--join", "x"]);
    }
  });
});
