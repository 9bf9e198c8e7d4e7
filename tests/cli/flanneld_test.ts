/** `selvage flanneld`: flannel's flags in both syntaxes, their variables and their defaults. */
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { renewalDelay_ms } from "../../src/agent/lease_keeper.ts";
import type { RunOptions } from "../../src/agent/options.ts";
import { withoutEmpty } from "../../src/cli/commands/flanneld.ts";
import { LEASE_TTL_MS } from "../../src/store/store.ts";
import { cli, FakeIo } from "./fake_io.ts";

async function options(args: string[], env: Record<string, string> = {}): Promise<RunOptions> {
  const { code, stderr, run } = await cli(["flanneld", ...args], new FakeIo(env));
  assert.equal(code, 0, stderr);
  assert.ok(run !== null, "run was not called");
  return run;
}

/** As JSON has it: addresses as texts. */
const plain = (value: unknown): unknown =>
  value === undefined ? undefined : JSON.parse(JSON.stringify(value));

test("flannel's defaults", async () => {
  assert.deepEqual(await options([]), {
    link: { interfaces: [], interfaceRegexes: [], canReach: null, publicAddresses: [] },
    subnetFile: "/run/flannel/subnet.env",
    renewMargin_ms: 60 * 60_000,
    ipMasq: false,
    isMasqFullyRandom: true,
    forwardRules: true,
    allowsNetworkOverlap: false,
    blackholeRoute: false,
    isGuarded: true,
    setsSysctls: true,
    netConfigFile: null,
    registryListen: null,
    join: null,
    etcd: {
      endpoints: ["http://127.0.0.1:4001", "http://127.0.0.1:2379"],
      prefix: "/coreos.com/network",
      keyfile: null,
      certfile: null,
      cafile: null,
      username: null,
      password: null,
      passwordFile: null,
    },
    stateDir: "/var/lib/selvage",
    apiListen: null,
    apiSocket: "/run/selvage/api.sock",
    healthListen: null,
    releaseOnExit: false,
    offloads: "auto",
    workers: "auto",
    trustsUnderlay: false,
    allowsOutsideSources: false,
    allowsCommands: false,
    logLevel: "info",
    notices: [],
  });
});

/** Flag, a value, further arguments it needs, and what it does. */
interface Row {
  readonly flag: string;
  readonly value: string;
  readonly with?: string[];
  readonly pick: (options: RunOptions) => unknown;
  readonly expected: unknown;
}

const ROWS: readonly Row[] = [
  {
    flag: "etcd-endpoints",
    value: "https://a:1,https://b:2",
    pick: (o) => o.etcd?.endpoints,
    expected: ["https://a:1", "https://b:2"],
  },
  { flag: "etcd-prefix", value: "/a//b/", pick: (o) => o.etcd?.prefix, expected: "/a/b" },
  {
    flag: "etcd-keyfile",
    value: "/k",
    with: ["-etcd-certfile=/c"],
    pick: (o) => o.etcd?.keyfile,
    expected: "/k",
  },
  {
    flag: "etcd-certfile",
    value: "/c",
    with: ["-etcd-keyfile=/k"],
    pick: (o) => o.etcd?.certfile,
    expected: "/c",
  },
  { flag: "etcd-cafile", value: "/ca", pick: (o) => o.etcd?.cafile, expected: "/ca" },
  {
    flag: "etcd-username",
    value: "u",
    with: ["-etcd-password=p"],
    pick: (o) => o.etcd?.username,
    expected: "u",
  },
  {
    flag: "etcd-password",
    value: "p",
    with: ["-etcd-username=u"],
    pick: (o) => o.etcd?.password,
    expected: "p",
  },
  { flag: "iface", value: "eth1", pick: (o) => o.link.interfaces, expected: ["eth1"] },
  {
    flag: "iface-regex",
    value: "^en",
    pick: (o) => o.link.interfaceRegexes.map(String),
    expected: ["^en"],
  },
  { flag: "iface-can-reach", value: "9.9.9.9", pick: (o) => o.link.canReach, expected: "9.9.9.9" },
  {
    flag: "public-ip",
    value: "198.51.100.7",
    pick: (o) => o.link.publicAddresses,
    expected: ["198.51.100.7"],
  },
  {
    flag: "public-ipv6",
    value: "2001:db8::7",
    pick: (o) => o.link.publicAddresses,
    expected: ["2001:db8::7"],
  },
  { flag: "subnet-file", value: "/s", pick: (o) => o.subnetFile, expected: "/s" },
  {
    flag: "subnet-lease-renew-margin",
    value: "1439",
    pick: (o) => o.renewMargin_ms,
    expected: 1439 * 60_000,
  },
  {
    flag: "healthz-ip",
    value: "127.0.0.1",
    with: ["-healthz-port=8080"],
    pick: (o) => o.healthListen,
    expected: { host: "127.0.0.1", port: 8080 },
  },
  {
    flag: "healthz-port",
    value: "8080",
    pick: (o) => o.healthListen,
    expected: { host: "0.0.0.0", port: 8080 },
  },
  { flag: "v", value: "10", pick: (o) => o.logLevel, expected: "debug" },
  // Of no effect here, and of none at their defaults.
  { flag: "iptables-resync", value: "5", pick: (o) => o.notices, expected: [] },
  { flag: "kube-api-url", value: "", pick: (o) => o.notices, expected: [] },
  { flag: "kubeconfig-file", value: "", pick: (o) => o.notices, expected: [] },
  {
    flag: "kube-annotation-prefix",
    value: "flannel.alpha.coreos.com",
    pick: (o) => o.notices,
    expected: [],
  },
  {
    flag: "net-config-path",
    value: "/etc/kube-flannel/net-conf.json",
    pick: (o) => o.notices,
    expected: [],
  },
];

const SWITCHES: readonly { flag: string; pick: (options: RunOptions) => unknown }[] = [
  { flag: "ip-masq", pick: (o) => o.ipMasq },
  { flag: "ip-masq-fully-random-disable", pick: (o) => !o.isMasqFullyRandom },
  { flag: "iptables-forward-rules", pick: (o) => o.forwardRules },
  { flag: "ip-blackhole-route", pick: (o) => o.blackholeRoute },
];

const variable = (flag: string) => `FLANNELD_${flag.toUpperCase().replaceAll("-", "_")}`;

describe("a flag with a value: one dash or two, a space or =, its variable", () => {
  for (const { flag, value, with: others = [], pick, expected } of ROWS) {
    test(flag, async () => {
      for (const dashes of ["-", "--"]) {
        for (const typed of [[`${dashes}${flag}=${value}`], [`${dashes}${flag}`, value]]) {
          const seen = pick(await options([...typed, ...others]));
          assert.deepEqual(plain(seen), expected, typed.join(" "));
        }
      }
      const seen = pick(await options(others, { [variable(flag)]: value }));
      assert.deepEqual(plain(seen), expected);
    });
  }
});

describe("a flag that is on or off: bare, with =, its variable", () => {
  for (const { flag, pick } of SWITCHES) {
    test(flag, async () => {
      for (const dashes of ["-", "--"]) {
        assert.equal(pick(await options([`${dashes}${flag}`])), true);
        assert.equal(pick(await options([`${dashes}${flag}=true`])), true);
        assert.equal(pick(await options([`${dashes}${flag}=false`])), false);
      }
      assert.equal(pick(await options([], { [variable(flag)]: "true" })), true);
      assert.equal(pick(await options([], { [variable(flag)]: "0" })), false);
      assert.equal(pick(await options([`-${flag}=f`], { [variable(flag)]: "true" })), false);
    });
  }
});

test("interfaces are tried in their order", async () => {
  const { link } = await options([
    "-iface=a",
    "--iface",
    "b",
    "-iface-regex=c",
    "-iface-regex",
    "d",
  ]);
  assert.deepEqual([link.interfaces, link.interfaceRegexes.map(String)], [["a", "b"], ["c", "d"]]);
});

test("what has no effect here is taken, and said once", async () => {
  const { notices } = await options([
    ...["-iptables-resync=30", "-kube-api-url=http://k", "-set-node-network-unavailable=false"],
    ...["-vmodule=x=2", "-logtostderr", "-alsologtostderr", "-log_dir", "/l", "-stderrthreshold=0"],
  ]);
  assert.deepEqual(notices.map((notice) => notice.split(":")[0]), [
    "--iptables-resync",
    "--kube-api-url",
    "--vmodule",
    "--stderrthreshold",
    "--log_dir",
    "--set-node-network-unavailable",
    "--alsologtostderr",
  ]);
  assert.match(notices[0]!, /rules are watched/);
  assert.deepEqual((await options([], { FLANNELD_IPTABLES_RESYNC: "9" })).notices.length, 1);
});

test("Kubernetes comes with a later version", async () => {
  for (const args of [["-kube-subnet-mgr"], ["--kube-subnet-mgr=true"]]) {
    const { code, stderr, run } = await cli(["flanneld", ...args]);
    assert.deepEqual([code, run], [1, null]);
    assert.match(stderr, /--kube-subnet-mgr: .*come with a later version/);
  }
  assert.notEqual(await options(["-kube-subnet-mgr=false"]), null);
});

test("an empty value is none, as where a unit passes on a variable that is not set", async () => {
  const names = [
    ...["etcd-endpoints", "etcd-cafile", "etcd-username", "etcd-password", "iface", "public-ip"],
    ...["healthz-port", "subnet-file", "v"],
  ];
  assert.deepEqual(await options(names.map((name) => `-${name}=`)), await options([]));
  assert.deepEqual(await options(names.flatMap((name) => [`-${name}`, ""])), await options([]));
  assert.deepEqual(withoutEmpty(["--a=", "--b=c=", "", "x=", "--", "--d=", ""]), [
    "--b=c=",
    "x=",
    "--",
    "--d=",
  ]);
});

test("an empty word is none, as where a unit passes on options that are not set", async () => {
  const given = ["-etcd-endpoints=http://h:1", "-ip-masq", "-iface", "eth1"];
  const expected = await options(given);
  assert.deepEqual([expected.ipMasq, expected.link.interfaces], [true, ["eth1"]]);
  for (const at of [0, 1, 2, 4]) {
    assert.deepEqual(await options(given.toSpliced(at, 0, "")), expected, `at ${at}`);
  }
  // Where a value stands, it is the value.
  assert.deepEqual((await options(given.with(3, ""))).link.interfaces, []);
  assert.equal((await options(["-etcd-cafile", "", "-ip-masq"])).ipMasq, true);
});

test("what is Selvage's own may be said too", async () => {
  const own = await options(["-state-dir=/d", "-api-listen=127.0.0.1:1", "-etcd-endpoints=h:1"]);
  assert.deepEqual([own.stateDir, own.apiListen], ["/d", { host: "127.0.0.1", port: 1 }]);
});

const WRONG: readonly [args: string[], message: RegExp][] = [
  [["-subnet-lease-renew-margin=0"], /--subnet-lease-renew-margin "0": .*1 to 1439/],
  [["-subnet-lease-renew-margin=1440"], /"1440"/],
  [["-no-such-flag"], /unknown flag -no-such-flag for "selvage flanneld"/],
  [["-etcd-endpoint=h:1"], /unknown flag -etcd-endpoint/],
  // Go would end the flags here, and leave out the rest without a word.
  [["-ip-masq", "true", "-iface=eth1"], /Write -ip-masq=true\n$/],
  [["-ip-masq", "maybe"], /too many arguments/],
  [["-etcd-keyfile=/k"], /go together/],
];

describe("what is wrong: exit status 2, as flannel's", () => {
  for (const [args, message] of WRONG) {
    test(args.join(" "), async () => {
      const { code, stderr, run } = await cli(["flanneld", ...args]);
      assert.deepEqual([code, run], [2, null]);
      assert.match(stderr, message);
    });
  }
});

test("help says that a renewal margin beyond half of a lease is as half", async () => {
  const { stdout } = await cli(["flanneld", "--help"]);
  const half_minutes = renewalDelay_ms(LEASE_TTL_MS, 1439 * 60_000) / 60_000;
  const text = stdout.replace(/\s+/g, " ");
  assert.match(
    text,
    new RegExp(`--subnet-lease-renew-margin .*more than ${half_minutes} counts as ${half_minutes}`),
  );
});

test("-version", async () => {
  const { code, stdout, run } = await cli(["flanneld", "-version"]);
  assert.deepEqual([code, stdout, run], [0, "selvage 1.2.3\n", null]);
});
