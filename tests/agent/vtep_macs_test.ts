import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { loadVtepMacs } from "../../src/agent/vtep_macs.ts";
import { IpAddress } from "../../src/net/ip.ts";

const OURS = ["192.0.2.1", "2001:db8::1"].map((text) => IpAddress.parse(text));

function withStateDir(run: (stateDir: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), "selvage-test-"));
  try {
    run(join(directory, "state"));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe("VTEP addresses", () => {
  test("they are the same at the next start, one a family, and for our eyes alone", () =>
    withStateDir((stateDir) => {
      const made = loadVtepMacs(stateDir, OURS);
      assert.ok(made[4].isUnicast() && made[6].isUnicast() && !made[4].equals(made[6]));
      const again = loadVtepMacs(stateDir, OURS);
      assert.deepEqual([`${again[4]}`, `${again[6]}`], [`${made[4]}`, `${made[6]}`]);
      assert.deepEqual(readdirSync(stateDir), ["vtep.json"]);
      assert.equal(statSync(join(stateDir, "vtep.json")).mode & 0o777, 0o600);
    }));

  test("a state directory that was copied to another host gives that host others", () =>
    withStateDir((stateDir) => {
      const first = loadVtepMacs(stateDir, OURS);
      const second = loadVtepMacs(stateDir, [IpAddress.parse("192.0.2.2")]);
      assert.ok(!first[4].equals(second[4]) && !first[6].equals(second[6]));
      const again = loadVtepMacs(stateDir, [IpAddress.parse("192.0.2.2")]);
      assert.ok(second[4].equals(again[4]));
    }));

  for (
    const text of [
      "",
      "{}",
      '{"node":"192.0.2.1","ipv4":"02:00:00:00:00:01"}',
      '{"node":"192.0.2.1","ipv4":"02:00","ipv6":"02:00:00:00:00:02"}',
      '{"node":"192.0.2.1","ipv4":"ff:ff:ff:ff:ff:ff","ipv6":"02:00:00:00:00:02"}',
    ]
  ) {
    test(`a file that says ${text || "nothing"} is replaced`, () =>
      withStateDir((stateDir) => {
        loadVtepMacs(stateDir, OURS);
        writeFileSync(join(stateDir, "vtep.json"), text);
        const made = loadVtepMacs(stateDir, OURS);
        assert.ok(made[4].isUnicast() && `${made[4]}` !== "02:00:00:00:00:01");
        assert.ok(loadVtepMacs(stateDir, OURS)[6].equals(made[6]));
      }));
  }

  test("where it cannot be kept, the start is refused", () => {
    // The parent of the directory is a file.
    withStateDir((stateDir) => {
      writeFileSync(stateDir, "");
      assert.throws(() => loadVtepMacs(join(stateDir, "below"), OURS), /cannot write/);
      assert.ok(!existsSync(join(stateDir, "below")));
    });
  });
});
