/** An agent in memory, for the tests of the API and of the command line. */
import type { AgentControl, CreatedToken, TokenRequest, TokenView } from "../../src/api/control.ts";
import type { Status } from "../../src/agent/status.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import type { NetworkConfig } from "../../src/config/network_config.ts";
import { SelvageError } from "../../src/errors.ts";
import {
  type Lease,
  type LeaseAttributes,
  type LeaseChange,
  leaseKey,
  sameNode,
} from "../../src/lease/lease.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { ForcedReservation, LeaseStore, StoreState } from "../../src/store/store.ts";

export const NOW_MS = Date.UTC(2026, 0, 2, 3, 4, 5);

export function lease(subnet: string, address: string, expiry_ms: number | null = null): Lease {
  return {
    subnets: [IpPrefix.parse(subnet)],
    publicAddresses: [IpAddress.parse(address)],
    backendType: "udp",
    backendData: {},
    expiry_ms,
  };
}

/** Wakes whoever waits for the next change. */
class Bell {
  #waiting: (() => void)[] = [];
  wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }
  ring(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

/** A store that keeps leases in a Map and can be told to hang or to fail. */
export class FakeStore implements LeaseStore {
  readonly leases = new Map<string, Lease>();
  config: NetworkConfig | null = parseNetworkConfig('{"Network": "10.5.0.0/16"}', "test");
  failure: Error | null = null;
  hangs = false;
  /** Not null: it is away, for this reason. */
  lastError: string | null = null;
  watcherCount = 0;
  readonly #changes: LeaseChange[] = [];
  readonly #bell = new Bell();

  constructor(leases: readonly Lease[] = []) {
    for (const one of leases) this.leases.set(leaseKey(one.subnets), one);
  }

  change(change: LeaseChange): void {
    if (change.type === "put") this.leases.set(change.key, change.lease);
    else this.leases.delete(change.key);
    this.#changes.push(change);
    this.#bell.ring();
  }

  async #gate(signal?: AbortSignal): Promise<void> {
    if (this.failure !== null) throw this.failure;
    if (!this.hangs) return;
    await new Promise((_resolve, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  }

  async readConfig(signal?: AbortSignal): Promise<NetworkConfig> {
    await this.#gate(signal);
    if (this.config !== null) return this.config;
    throw new SelvageError("config_missing", "no network configuration yet");
  }

  acquire(): Promise<Lease> {
    return Promise.reject(new SelvageError("unsupported", "not part of these tests"));
  }

  renew(one: Lease): Promise<Lease> {
    return Promise.resolve(one);
  }

  release(): Promise<void> {
    return Promise.resolve();
  }

  async list(signal?: AbortSignal): Promise<Lease[]> {
    await this.#gate(signal);
    return [...this.leases.values()];
  }

  async reserve(
    subnets: readonly IpPrefix[],
    attributes: LeaseAttributes,
    signal?: AbortSignal,
  ): Promise<Lease> {
    await this.#gate(signal);
    const key = leaseKey(subnets);
    const held = this.leases.get(key);
    if (held !== undefined && !sameNode(held, attributes)) {
      throw new SelvageError("conflict", `${key} is held by ${held.publicAddresses}`);
    }
    const made: Lease = { ...attributes, subnets, expiry_ms: null };
    this.change({ type: "put", key, lease: made });
    return made;
  }

  async reserveByForce(
    subnets: readonly IpPrefix[],
    attributes: LeaseAttributes,
    signal?: AbortSignal,
  ): Promise<ForcedReservation> {
    const held = this.leases.get(leaseKey(subnets));
    const replaced = held === undefined || sameNode(held, attributes) ? [] : [held];
    for (const { subnets } of replaced) this.leases.delete(leaseKey(subnets));
    return { lease: await this.reserve(subnets, attributes, signal), replaced };
  }

  async revoke(key: string, signal?: AbortSignal): Promise<void> {
    await this.#gate(signal);
    if (!this.leases.has(key)) throw new SelvageError("not_found", `no lease ${key}`);
    this.change({ type: "delete", key });
  }

  async *watch(signal: AbortSignal): AsyncGenerator<readonly LeaseChange[]> {
    this.watcherCount++;
    try {
      let seen = this.#changes.length;
      yield [...this.leases].map(([key, one]) => ({ type: "put" as const, key, lease: one }));
      while (!signal.aborted) {
        if (seen === this.#changes.length) await this.#bell.wait(signal);
        const batch = this.#changes.slice(seen);
        seen += batch.length;
        if (batch.length > 0 && !signal.aborted) yield batch;
      }
    } finally {
      this.watcherCount--;
    }
  }

  async *watchConfig(signal: AbortSignal): AsyncGenerator<NetworkConfig> {
    if (this.config !== null && !signal.aborted) yield this.config;
    while (!signal.aborted) await this.#bell.wait(signal);
  }

  reconnect(): void {}

  state(): StoreState {
    return {
      kind: "embedded",
      location: "/var/lib/selvage/registry.db",
      connected: this.lastError === null,
      since_ms: NOW_MS - 3_600_000,
      lastError: this.lastError,
      errorSince_ms: null,
      unreadableCount: 0,
      unreadable: [],
    };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

export const API_TOKEN = "api-secret-1";
export const JOIN_TOKEN = "join-secret-1";

export class FakeTokens {
  note: string | null = null;
  keepsRegistry = true;
  readonly views = new Map<string, TokenView>();
  lastRequest: TokenRequest | null = null;

  create(request: TokenRequest): Promise<CreatedToken> {
    this.lastRequest = request;
    const { scope, description } = request;
    const token = { id: `t${this.views.size + 1}`, scope, description, created_ms: NOW_MS };
    this.views.set(token.id, token);
    const secret = scope === "join"
      ? `slv1.${request.addresses.join("+") || "default"}.x`
      : API_TOKEN;
    return Promise.resolve({ token, secret });
  }
  list(): Promise<TokenView[]> {
    return Promise.resolve([...this.views.values()]);
  }
  revoke(id: string): Promise<void> {
    if (this.views.delete(id)) return Promise.resolve();
    return Promise.reject(new SelvageError("not_found", `no token ${id}`));
  }
  verify(bearer: string) {
    return bearer === API_TOKEN ? "api" : bearer === JOIN_TOKEN ? "join" : null;
  }
  readonly revocations = new Set<() => void>();
  onRevoked(_bearer: string, listener: () => void) {
    this.revocations.add(listener);
    return () => this.revocations.delete(listener);
  }
}

export class FakeControl implements AgentControl {
  readonly tokens = new FakeTokens();
  reasons: string[] = [];
  /** Of each call of `setConfig`, whether it was forced. */
  readonly forced: boolean[] = [];
  current: Status;

  constructor(readonly store = new FakeStore(), status: Status = sampleStatus()) {
    this.current = status;
  }
  backUpRegistry(): Promise<string> {
    return Promise.resolve('{"format":"a backup"}\n');
  }

  status(): Status {
    return this.current;
  }
  lease(): Status["lease"] {
    return this.current.lease;
  }
  readiness() {
    return { ready: this.reasons.length === 0, reasons: this.reasons };
  }
  known: readonly Lease[] | null = null;
  knownLeases() {
    return this.known;
  }
  config(): Promise<NetworkConfig> {
    return this.store.readConfig();
  }
  // deno-lint-ignore require-await -- so that a refusal is a rejection
  async setConfig(
    text: string,
    { isForced, isDryRun }: { isForced: boolean; isDryRun: boolean },
  ): Promise<void> {
    this.forced.push(isForced);
    if (!isDryRun) this.store.config = parseNetworkConfig(text, "test");
  }
}

/** A host with two peers, one of which was never heard of. */
export function sampleStatus(): Status {
  const peer = {
    backendType: "udp",
    sentPackets: 0,
    sentBytes: 0,
    receivedPackets: 0,
    receivedBytes: 0,
    lastHeard_ms: null,
    pathMtu_bytes: null,
  };
  return {
    version: "0.1.0",
    pid: 4711,
    now_ms: NOW_MS,
    started_ms: NOW_MS - 3_700_000,
    uptime_ms: 3_700_000,
    phase: "ready",
    ready: true,
    waitingFor: null,
    waitingSince_ms: null,
    interface: {
      name: "eth0",
      mtu_bytes: 1500,
      addresses: ["192.0.2.1"],
      publicAddresses: ["192.0.2.1"],
    },
    network: ["10.5.0.0/16"],
    lease: {
      subnets: ["10.5.52.0/24"],
      expiry_ms: NOW_MS + 86_000_000,
      renewal_ms: NOW_MS + 82_400_000,
      lostSince_ms: null,
    },
    backend: {
      type: "udp",
      mtu_bytes: 1472,
      generation: null,
      isDirectRouting: false,
      peerCount: 2,
      devices: [],
      tunnels: [
        { family: 4, device: "flannel0", port: 8285, mtu_bytes: 1472, vni: null, vtepMac: null },
      ],
    },
    peers: [
      {
        ...peer,
        key: "10.5.7.0-24",
        subnets: ["10.5.7.0/24"],
        publicAddresses: ["192.0.2.2"],
        sentPackets: 1200,
        sentBytes: 1_500_000,
        receivedPackets: 12,
        receivedBytes: 999,
        lastHeard_ms: NOW_MS - 3_200,
      },
      { ...peer, key: "10.5.8.0-24", subnets: ["10.5.8.0/24"], publicAddresses: ["192.0.2.30"] },
    ],
    problems: [],
    notices: [],
    skippedPeers: [{ key: "10.5.9.0-24", reason: "its backend is vxlan" }],
    store: new FakeStore().state(),
    dataPlane: {
      running: true,
      restartCount: 0,
      sentPackets: 1200,
      sentBytes: 1_500_000,
      receivedPackets: 12,
      receivedBytes: 999,
      drops: { noRoute: 3, ttlExpired: 0, notAPeer: 17, truncated: 0 },
      peerCount: 2,
      peerCountMax: 65536,
      offloads: ["csum", "tso"],
      queueCount: 1,
      trustsUnderlay: false,
      allowsOutsideSources: false,
      refusedSources: [],
    },
    guard: null,
    listeners: [],
    registry: { listen: "192.0.2.1:8286", fingerprint: "sha256:0102" },
  };
}
