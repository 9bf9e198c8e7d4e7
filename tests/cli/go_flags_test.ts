import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { Command } from "commander";
import fc from "fast-check";
import { boolFlag, listFlag, valueFlag } from "../../src/cli/flags.ts";
import { editDistance, nearest, normaliseGoFlags } from "../../src/cli/go_flags.ts";
import { UsageError } from "../../src/cli/usage_error.ts";

const text = (value: string) => value;

function program(): Command {
  const root = new Command("tool").version("1", "--version");
  root.command("run")
    .addOption(listFlag({ term: "iface <name>", description: "", parse: text }))
    .addOption(valueFlag({ term: "v <level>", description: "", parse: text }))
    .addOption(boolFlag({ term: "ip-masq", description: "" }));
  const nested = root.command("leases");
  nested.command("list", { isDefault: true }).alias("ls").addOption(
    boolFlag({ term: "json", description: "" }),
  );
  nested.command("revoke").argument("<key>");
  return root;
}

describe("Go's flag syntax", () => {
  const rows: [string, string][] = [
    ["run -iface eth0", "run --iface=eth0"],
    ["run --iface eth0", "run --iface=eth0"],
    ["run -iface=eth0", "run --iface=eth0"],
    ["run --iface=eth0 -iface=eth1", "run --iface=eth0 --iface=eth1"],
    ["run -iface=a=b", "run --iface=a=b"],
    ["run -iface=", "run --iface="],
    ["run -iface -v", "run --iface=-v"],
    ["run -v=10", "run --v=10"],
    ["run --v 10", "run --v=10"],
    ["run -ip-masq", "run --ip-masq=true"],
    ["run -ip-masq=false -v 1", "run --ip-masq=false --v=1"],
    ["run -ip-masq x", "run --ip-masq=true x"],
    ["run -h", "run --help"],
    ["run --help", "run --help"],
    ["run -help", "run --help"],
    ["run -- -iface x", "run -- -iface x"],
    ["run -", "run -"],
    ["leases list -json", "leases list --json=true"],
    ["leases revoke list", "leases revoke list"],
    ["leases ls -json", "leases ls --json=true"],
    ["help leases", "leases --help"],
    ["help leases ls", "leases ls --help"],
    ["leases help revoke", "leases revoke --help"],
    ["help", "--help"],
    ["help leases -- x", "leases --help -- x"],
    ["run help", "run help"],
    ["leases", "leases"],
    ["leases -json", "leases list --json=true"],
    ["leases -h", "leases --help"],
    ["leases -json=0 -h", "leases list --json=0 --help"],
    ["leases revoke true", "leases revoke true"],
    ["-version", "--version"],
    ["-version=true", "--version"],
    ["-version=0", ""],
  ];
  for (const [typed, read] of rows) {
    test(typed, () => {
      assert.equal(normaliseGoFlags(program(), typed.split(" ")).join(" "), read);
    });
  }

  const REVOKE = "Write them behind it: tool leases revoke";
  const errors: [string, RegExp, string][] = [
    ["run -ifcae eth0", /^unknown flag -ifcae for "tool run"$/, "Did you mean --iface?"],
    ["run --ip-mask=true", /^unknown flag --ip-mask for/, "Did you mean --ip-masq?"],
    ["run -zzzzzz", /^unknown flag -zzzzzz/, "See: tool run --help"],
    ["leases -jsno", /^unknown flag -jsno for "tool leases list"$/, "Did you mean --json?"],
    ["leases -json revoke x", /^flags of "tool leases list" stand before "revoke"$/, REVOKE],
    ["leases -json ls", /^flags of "tool leases list" stand before "ls"$/, ""],
    ["run -ip-masq true", /^a boolean takes its value after "="/, "Write -ip-masq=true"],
    ["leases --json F", /^a boolean takes/, "Write --json=F"],
    ["leases revoke -json", /^unknown flag -json for "tool leases revoke"$/, ""],
    ["run -iface", /^flag --iface needs a value$/, ""],
    ["run ---iface x", /^bad flag syntax: ---iface$/, ""],
    ["run -=x", /^bad flag syntax: -=x$/, ""],
    ["run -h=1", /^unknown flag -h/, ""],
    ["runn", /^unknown command "runn" for "tool"$/, "Did you mean run?"],
    ["leases lst", /^unknown command "lst" for "tool leases"$/, "Did you mean list?"],
    ["leases qqqqqqq", /^unknown command "qqqqqqq"/, "There are: list, revoke"],
    ["-version=maybe", /^--version "maybe": must be true or false$/, ""],
  ];
  for (const [typed, message, hint] of errors) {
    test(`${typed}: refused`, () => {
      assert.throws(() => normaliseGoFlags(program(), typed.split(" ")), (error: unknown) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, message);
        if (hint !== "") assert.equal(error.hint, hint);
        return true;
      });
    });
  }

  test("what was read is read the same again", () => {
    const word = fc.constantFrom("-iface", "--iface", "-ip-masq", "-v", "x", "=", "-iface=q", "--");
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), (words) => {
        let once: string[];
        try {
          once = normaliseGoFlags(program(), ["run", ...words]);
        } catch (error) {
          assert.ok(error instanceof UsageError);
          return;
        }
        assert.deepEqual(normaliseGoFlags(program(), once), once);
      }),
      { seed: 20260102 },
    );
  });
});

describe("suggestions", () => {
  /** The same by its definition, without the table. */
  function slowDistance(a: string, b: string): number {
    if (a === "" || b === "") return a.length + b.length;
    const [restA, restB] = [a.slice(1), b.slice(1)];
    if (a[0] === b[0]) return slowDistance(restA, restB);
    return 1 + Math.min(slowDistance(restA, b), slowDistance(a, restB), slowDistance(restA, restB));
  }

  test("the distance agrees with its definition", () => {
    const short = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 6 });
    fc.assert(
      fc.property(short, short, (a, b) => {
        assert.equal(editDistance(a, b), slowDistance(a, b));
      }),
      { seed: 7 },
    );
  });

  test("only what is near is suggested", () => {
    assert.equal(nearest("iface-regx", ["iface", "iface-regex", "v"]), "iface-regex");
    assert.equal(nearest("x", ["iface", "v"]), "v");
    assert.equal(nearest("etcd-endpoints", ["iface", "public-ip"]), null);
    assert.equal(nearest("a".repeat(100_000), ["iface"]), null);
    assert.equal(nearest("x", []), null);
  });
});
