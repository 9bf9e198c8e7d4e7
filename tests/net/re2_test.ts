import assert from "node:assert/strict";
import { test } from "node:test";
import { Re2Pattern } from "../../src/net/re2.ts";

const pattern = (text: string) => new Re2Pattern(text, "--iface-regex");

test("patterns mean what they mean in Go", () => {
  const rows: [text: string, fits: string, fitsNot: string][] = [
    ["(?i)ENP.*", "enp3s0", "eth0"],
    ["^eth[[:digit:]]$", "eth0", "eth10"],
    [String.raw`\Aeth0\z`, "eth0", "eth0\n"],
    [String.raw`\Qeth0.5\E`, "eth0.5", "eth0x5"],
    ["(?P<kind>eth)[0-9]", "eth4", "wlan0"],
    [String.raw`^\pL+$`, "eth", "eth0"],
    [String.raw`\x{65}th`, "eth0", "wth0"],
    [String.raw`^192\.168\.`, "192.168.0.1", "10.192.168.0"],
    ["th", "eth0", "wlan0"],
  ];
  for (const [text, fits, fitsNot] of rows) {
    assert.ok(pattern(text).matches(fits), `${text} fits ${fits}`);
    assert.ok(!pattern(text).matches(fitsNot), `${text} does not fit ${fitsNot}`);
    assert.equal(JSON.stringify(pattern(text)), JSON.stringify(text));
  }
});

test("what is no pattern of RE2 is refused, and the error says why", () => {
  const rows: [string, RegExp][] = [
    ["(", /^--iface-regex "\(": missing closing \)/],
    ["eth(?=0)", /^--iface-regex "eth\(\?=0\)": invalid or unsupported Perl syntax: `\(\?=`/],
    ["(?<=e)th", /^--iface-regex "\(\?<=e\)th": RE2 has no look-behind: `\(\?<=`$/],
    ["(?<!e)th", /"\(\?<!e\)th": RE2 has no look-behind: `\(\?<!`$/],
    ["eth(?!0)", /: `\(\?!` \(RE2 has no look-ahead\)$/],
    [String.raw`(?<a>e)\k<a>`, /: `\\k` \(RE2 has no references to groups\)$/],
    ["(?>e)th", /\(RE2 has no atomic groups\)$/],
    ["(?<a-b>e)", /: invalid named capture: `\(\?<a-b>`$/],
    [String.raw`(a)\1`, /invalid escape sequence: `\\1`/],
    ["[z-a]", /invalid character class range: `z-a`/],
  ];
  for (const [text, message] of rows) {
    assert.throws(() => pattern(text), { code: "invalid_argument", message, hint: /RE2/ });
  }
});

test("no pattern takes long", () => {
  const start_ms = performance.now();
  assert.ok(!pattern("^(a*)*b$").matches("a".repeat(2_000)));
  assert.ok(performance.now() - start_ms < 2_000);
});
