/** Where hosts find the registry: names, several addresses, and an address that changes. */
import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { withNetns } from "../../ffi/netns.ts";
import { spawnSync } from "node:child_process";
import type { SelfCommand } from "../../src/demo/host.ts";
import { formatHostPort } from "../../src/net/host_port.ts";
import { parseJoinString } from "../../src/registry/join_string.ts";
import { all } from "./dual_stack.ts";
import { EXECUTABLE, type Lab, withLab } from "./lab.ts";

const NAME = "registry.example";

/** The daemon in a mount namespace with these hosts, and a name server that is not there. */
function withHostsFile(lab: Lab, text: string): SelfCommand {
  const [hosts, resolver] = [join(lab.directory, "hosts"), join(lab.directory, "resolv.conf")];
  writeFileSync(hosts, text);
  writeFileSync(resolver, "nameserver 127.0.0.1\n");
  const script =
    `mount --bind ${hosts} /etc/hosts && mount --bind ${resolver} /etc/resolv.conf &&` +
    ' exec "$0" "$@"';
  return { command: "unshare", args: ["-m", "sh", "-c", script, EXECUTABLE.command] };
}

const joinFile = (lab: Lab) => join(lab.directory, "join-string");

/** The addresses in a new join string, which is put into `joinFile`. */
function createdAddresses(lab: Lab, ...flags: string[]): string[] {
  const created = lab.run(1, ["token", "create", ...flags]);
  assert.equal(created.status, 0, created.stderr);
  writeFileSync(joinFile(lab), created.stdout);
  return parseJoinString(created.stdout).addresses.map(formatHostPort);
}

function writeConfig(lab: Lab): string {
  const file = join(lab.directory, "net-conf.json");
  writeFileSync(file, JSON.stringify({ Network: "10.210.0.0/16" }));
  return `--net-config=${file}`;
}

test("a registry by its name: hosts look it up when they connect", () =>
  withLab(2, async (lab) => {
    const self = withHostsFile(lab, `127.0.0.1 localhost\n198.18.0.1 ${NAME}\n`);
    lab.launch(1, [writeConfig(lab), `--registry-listen=${NAME}:8286`], self);
    const { registry } = await lab.ready(1);
    assert.equal(registry?.listen, `${NAME}:8286`);
    assert.deepEqual(createdAddresses(lab), [`${NAME}:8286`]);
    lab.launch(2, [`--join=@${joinFile(lab)}`], self);
    const { store } = await lab.ready(2);
    assert.equal(store?.location, `${NAME}:8286`);
    await lab.untilPeers(1, 1, 2);

    // A name that leads nowhere is named.
    await lab.stop(2);
    assert.deepEqual(createdAddresses(lab, "--address=nowhere.invalid"), ["nowhere.invalid:8286"]);
    lab.launch(2, [`--join=@${joinFile(lab)}`], self);
    const reason = /registry nowhere\.invalid:8286: the name cannot be resolved \(E/;
    await lab.until(2, "not told", ({ store }) => reason.test(store?.lastError ?? ""));
  }));

test("a registry that listens everywhere, at an address that changes, or at several", () =>
  withLab(2, async (lab) => {
    lab.launch(1, [writeConfig(lab), "--registry-listen=0.0.0.0:8286"]);
    await lab.ready(1);
    assert.deepEqual(createdAddresses(lab), ["198.18.0.1:8286"]);
    all(lab, lab.network(1).host, [
      "addr del 198.18.0.1/24 dev eth0",
      "addr add 198.18.0.41/24 dev eth0",
      "route replace default via 198.18.0.254 dev eth0",
    ]);
    await lab.until(
      1,
      "not followed",
      ({ interface: link }) => link?.publicAddresses[0] === "198.18.0.41",
    );
    assert.deepEqual(createdAddresses(lab), ["198.18.0.41:8286"]);

    // Nobody is at the first; the second is tried by itself.
    const given = ["--address=198.18.0.41:9", "--address=198.18.0.41"];
    assert.deepEqual(createdAddresses(lab, ...given), ["198.18.0.41:9", "198.18.0.41:8286"]);
    lab.launch(2, [`--join=@${joinFile(lab)}`]);
    await lab.ready(2);

    // Its join tokens are that host's affair, and it says so.
    const list = lab.run(2, ["token", "list"]);
    assert.deepEqual([list.status, list.stdout], [1, ""]);
    assert.match(
      list.stderr,
      /keeps no registry.*\n.*joined the registry at 198\.18\.0\.41:9, .*\. Make, list and revoke/,
    );
    const create = lab.run(2, ["token", "create"]);
    assert.equal(create.status, 1);
    assert.match(create.stderr, /serves no registry to join\n.*joined the registry at/);
    const revoke = lab.run(2, ["token", "revoke", "0123456789ab"]);
    assert.match(revoke.stderr, /there is no token .*\n.*joined the registry at/);
  }));

test("an address that this host does not have is refused before any file is made", () =>
  withLab(1, (lab) => {
    const state = join(lab.directory, "state");
    const { command, args } = withHostsFile(lab, "127.0.0.1 localhost\n");
    for (
      const [address, text] of [
        ["192.0.2.77", /registry address 192\.0\.2\.77:8286: this host does not have this address/],
        ["nowhere.invalid", /registry address nowhere\.invalid:8286: the name cannot be resolved/],
      ] as const
    ) {
      const run = ["run", writeConfig(lab), `--registry-listen=${address}`, `--state-dir=${state}`];
      const { status, stderr } = withNetns(
        lab.network(1).host,
        () => spawnSync(command, [...args, ...run], { encoding: "utf8", timeout: 30_000 }),
      );
      assert.equal(status, 1, stderr);
      assert.match(stderr, text);
      assert.equal(existsSync(state), false);
    }
    return Promise.resolve();
  }));
