/** The migration to a real etcd, by the command line, as a user with rights to one prefix alone. */
import { test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEtcdClient, openEtcdStore } from "../../src/etcd/open_etcd_store.ts";
import type { EtcdOptions } from "../../src/etcd/options.ts";
import { leaseKey } from "../../src/lease/lease.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { EmbeddedStore, registryPath } from "../../src/store/embedded_store.ts";
import { cli, type CliResult, FakeIo } from "../cli/fake_io.ts";
import { withEtcd } from "./lab.ts";

const PREFIX = "/lab/network";
const COUNT = 300;

const attributes = (i: number) => ({
  publicAddresses: [IpAddress.parse(`192.0.${2 + (i >> 8)}.${i & 255}`)],
  backendType: "udp",
  backendData: {},
});

test("to a real etcd: every host gets its subnet there, every reservation stays", async () => {
  const directory = mkdtempSync(join(tmpdir(), "selvage-migrate-"));
  const user = { username: "selvage", password: "pass word", prefix: `${PREFIX}/` };
  try {
    const registry = new EmbeddedStore({ path: registryPath(directory) });
    registry.setConfig('{"Network":"10.5.0.0/16","SubnetLen":26}', "test");
    const expected: string[] = [];
    for (let i = 1; i <= COUNT; i++) {
      const lease = await registry.acquire({ attributes: attributes(i), previousSubnets: [] });
      expected.push(leaseKey(lease.subnets));
    }
    await registry.reserve([IpPrefix.parse("10.5.0.0/26")], attributes(COUNT + 1));
    await registry.close();
    const passwordFile = join(directory, "password");
    writeFileSync(passwordFile, `${user.password}\n`);

    await withEtcd({ user }, async (lab) => {
      const at = ["--etcd-endpoints", lab.clientOptions.endpoints.join(), "--etcd-prefix", PREFIX];
      const login = ["--etcd-username", "selvage", "--etcd-password-file", passwordFile];
      const run = (...args: string[]): Promise<CliResult> => {
        const io = new FakeIo();
        io.now_ms = Date.now;
        return cli([...args, ...at, ...login], io, openEtcdClient);
      };
      const migrate = () => run("migrate", "--from-state-dir", directory, "--json");
      const first = await migrate();
      assert.equal(first.code, 0, first.stderr);
      const { counts } = JSON.parse(first.stdout);
      assert.deepEqual([counts.lease.created, counts.reservation.created], [COUNT, 1]);
      const second = JSON.parse((await migrate()).stdout);
      assert.deepEqual([second.counts.lease.same, second.counts.configuration.same], [COUNT, 1]);

      const options: EtcdOptions = { ...lab.clientOptions, prefix: PREFIX };
      const store = openEtcdStore(options, { onStateChange: () => {} });
      try {
        for (const i of [1, 2, COUNT]) {
          const lease = await store.acquire({ attributes: attributes(i), previousSubnets: [] });
          assert.equal(leaseKey(lease.subnets), expected[i - 1]);
        }
        const reserved = await store.acquire({
          attributes: attributes(COUNT + 1),
          previousSubnets: [],
        });
        assert.deepEqual([leaseKey(reserved.subnets), reserved.expiry_ms], ["10.5.0.0-26", null]);
      } finally {
        await store.close();
      }

      assert.equal((await run("leases", "revoke", expected[4]!)).code, 0);
      const listed = JSON.parse((await run("leases", "list", "--json")).stdout);
      assert.equal(listed.length, COUNT);
      assert.match((await run("config", "get")).stdout, /"SubnetLen": 26/);
      writeFileSync(passwordFile, "wrong\n");
      const wrong = await run("leases", "list");
      assert.equal(wrong.code, 1);
      assert.match(wrong.stderr, /^selvage: etcd.*password/);
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
