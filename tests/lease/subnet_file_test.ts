import { afterEach, beforeEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseLeaseKey } from "../../src/lease/lease.ts";
import {
  formatSubnetFile,
  readPreviousSubnets,
  writeSubnetFile,
} from "../../src/lease/subnet_file.ts";
import { networkConfig } from "./sample.ts";

const FOUR = {
  network: networkConfig({ Network: "10.5.0.0/16" }),
  subnets: parseLeaseKey("10.5.52.0-24"),
  mtu_bytes: 1472,
  ipMasq: false,
};
const DUAL = {
  network: networkConfig({
    EnableIPv6: true,
    Network: "10.5.0.0/16",
    IPv6Network: "fd00:5::/48",
  }),
  subnets: parseLeaseKey("10.5.52.0-24&fd00:5:0:7::-64"),
  mtu_bytes: 1430,
  ipMasq: true,
};

describe("subnet.env", () => {
  let directory: string;
  let path: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "selvage-subnet-"));
    path = join(directory, "run", "flannel", "subnet.env");
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  test("is flannel's, line by line", () => {
    assert.equal(
      formatSubnetFile(FOUR),
      "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.52.1/24\n" +
        "FLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n",
    );
    assert.equal(
      formatSubnetFile(DUAL),
      "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.52.1/24\n" +
        "FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:7::1/64\n" +
        "FLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n",
    );
  });

  test("is written whole, for all to read, and comes back", () => {
    const umask = process.umask(0o077);
    try {
      writeSubnetFile(path, FOUR);
    } finally {
      process.umask(umask);
    }
    assert.equal(statSync(path).mode & 0o777, 0o644);
    assert.equal(readFileSync(path, "utf8"), formatSubnetFile(FOUR));
    const { ino } = statSync(path);
    writeSubnetFile(path, DUAL);
    // A reader that has the old file open goes on reading the old one.
    assert.notEqual(statSync(path).ino, ino);
    assert.deepEqual(readdirSync(join(path, "..")), ["subnet.env"]);
    const { subnets, networks, warning } = readPreviousSubnets(path);
    assert.deepEqual({ subnets, warning }, { subnets: DUAL.subnets, warning: null });
    assert.deepEqual(networks.map(String), ["10.5.0.0/16", "fd00:5::/48"]);
  });

  test("that was edited by hand is read as flannel reads it", () => {
    const rows: [what: string, text: string, subnet: string | null][] = [
      ["double quotes", 'FLANNEL_SUBNET="10.5.52.1/24"', "10.5.52.0/24"],
      ["single quotes", "FLANNEL_SUBNET='10.5.52.1/24'", "10.5.52.0/24"],
      ["quotes and a comment", "FLANNEL_SUBNET='10.5.52.1/24'# mine", "10.5.52.0/24"],
      ["export", "export FLANNEL_SUBNET=10.5.52.1/24", "10.5.52.0/24"],
      ["export and blanks", "  export   FLANNEL_SUBNET=10.5.52.1/24", "10.5.52.0/24"],
      ["indentation", "\tFLANNEL_SUBNET=10.5.52.1/24  ", "10.5.52.0/24"],
      ["blanks at the sign", "FLANNEL_SUBNET = 10.5.52.1/24", "10.5.52.0/24"],
      ["a colon", "FLANNEL_SUBNET: 10.5.52.1/24", "10.5.52.0/24"],
      ["a trailing comment", "FLANNEL_SUBNET=10.5.52.1/24 # mine", "10.5.52.0/24"],
      ["carriage returns", "A=1\r\nFLANNEL_SUBNET=10.5.52.1/24\r\nB=2\r\n", "10.5.52.0/24"],
      ["the last counts", "FLANNEL_SUBNET=x\nFLANNEL_SUBNET=10.5.52.1/24", "10.5.52.0/24"],
      ["a comment alone", "# FLANNEL_SUBNET=10.5.52.1/24", null],
      ["a longer name", "MY_FLANNEL_SUBNET=10.5.52.1/24", null],
      ["a quote that does not end", 'FLANNEL_SUBNET="10.5.52.1/24', null],
      ["a comment without a blank", "FLANNEL_SUBNET=10.5.52.1/24#mine", null],
      ["nothing but a comment", "FLANNEL_SUBNET=# 10.5.52.1/24", null],
    ];
    mkdirSync(join(path, ".."), { recursive: true });
    for (const [what, text, subnet] of rows) {
      writeFileSync(path, `FLANNEL_NETWORK=10.5.0.0/16\n${text}\n`);
      const { subnets, warning } = readPreviousSubnets(path);
      assert.deepEqual(subnets.map(String), subnet === null ? [] : [subnet], what);
      assert.equal(warning === null, subnet !== null, what);
    }
  });

  test("that cannot be written leaves the old one, and nothing else", () => {
    mkdirSync(path, { recursive: true });
    assert.throws(() => writeSubnetFile(path, FOUR), { message: new RegExp(path) });
    assert.deepEqual(readdirSync(join(path, "..")), ["subnet.env"]);
    writeFileSync(join(directory, "file"), "");
    assert.throws(() => writeSubnetFile(join(directory, "file", "subnet.env"), FOUR));
  });

  test("that is missing is no fault; what cannot be read is a warning", () => {
    assert.deepEqual(readPreviousSubnets(path), { subnets: [], networks: [], warning: null });
    mkdirSync(path, { recursive: true });
    assert.match(readPreviousSubnets(path).warning ?? "", /cannot read .*subnet\.env/);
    rmSync(path, { recursive: true });
    const good = "FLANNEL_SUBNET=10.5.52.1/24\n";
    const rows: [string, string[], RegExp | null][] = [
      [good, ["10.5.52.0/24"], null],
      ["FLANNEL_SUBNET=10.5.1.1/24\nX=1\nFLANNEL_SUBNET=10.5.52.1/24\r\n", ["10.5.52.0/24"], null],
      ["FLANNEL_IPV6_SUBNET=fd00::1/64", ["fd00::/64"], null],
      ["", [], /subnet\.env: it names no subnet/],
      ["\0\0\0\0", [], /it names no subnet/],
      ["FLANNEL_SUBNET=\n", [], /FLANNEL_SUBNET ""/],
      ["FLANNEL_SUBNET=10.5.52.1\n", [], /FLANNEL_SUBNET "10\.5\.52\.1"/],
      ["FLANNEL_SUBNET=fd00::1/64\n", [], /not an IPv4 prefix/],
      [`${good}FLANNEL_IPV6_SUBNET=x\n`, ["10.5.52.0/24"], /FLANNEL_IPV6_SUBNET "x"/],
      ["x".repeat(100_000), [], /larger than 65536 bytes/],
    ];
    for (const [text, subnets, warning] of rows) {
      writeFileSync(path, text);
      const read = readPreviousSubnets(path);
      assert.deepEqual(read.subnets.map(String), subnets, text.slice(0, 60));
      if (warning === null) assert.equal(read.warning, null);
      else assert.match(read.warning ?? "", warning);
    }
  });
});
