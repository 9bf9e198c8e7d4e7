/**
 * The agent: the only place that knows store, lease, backend, kernel and data plane. It starts and
 * stops them, and keeps the state that the API shows.
 */
import { availableParallelism } from "node:os";
import { NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { collectGarbage, pageOutFiles, unmapCode } from "../../ffi/page_out.ts";
import type { AgentControl, Readiness, TokenAdmin } from "../api/control.ts";
import type { VtepMacs } from "../backend/backend.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { errorText, SelvageError } from "../errors.ts";
import { probeWritable } from "../files.ts";
import { chooseOuterLink, type OuterLink } from "../kernel/outer_link.ts";
import { Reconciler } from "../kernel/reconciler.ts";
import { type Lease, type LeaseAttributes, leaseKey } from "../lease/lease.ts";
import { LeaseTable } from "../lease/lease_table.ts";
import { readPreviousSubnets, writeSubnetFile } from "../lease/subnet_file.ts";
import { logger } from "../log.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import type { LeaseStore } from "../store/store.ts";
import { VERSION } from "../version.ts";
import { DataPath } from "./data_path.ts";
import { LeaseKeeper } from "./lease_keeper.ts";
import { awaitNetwork, type Network } from "./network.ts";
import { type OpenedStore, openStore } from "./open_store.ts";
import { probeTunnel } from "./open_tunnel.ts";
import type { RunOptions } from "./options.ts";
import { requireCapabilities, requireTun } from "./preflight.ts";
import { Backoff, pause } from "../retry.ts";
import { notifyServiceManager } from "./service_manager.ts";
import { Settling } from "./settling.ts";
import { snapshot } from "./snapshot.ts";
import type { Phase, Status } from "./status.ts";
import { loadVtepMacs } from "./vtep_macs.ts";
import { workerCount } from "./worker_count.ts";

const MOVE_RETRY_FIRST_MS = 1_000;
const MOVE_RETRY_MAX_MS = 30_000;
/** How long a tidy end waits for a registry that may be away. */
const RELEASE_TIMEOUT_MS = 3_000;
/** How long the store may be away before the node says that it is not ready. */
const STORE_LOSS_READY_MS = 60_000;
/** How long after a check of the kernel what runs in its wake, such as the collector, is over. */
const REST_MS = 1_000;

export interface Closable {
  close(): Promise<void>;
}

export class Agent implements AgentControl {
  readonly #options: RunOptions;
  readonly #workerUrl: URL;
  readonly #log = logger("agent");
  readonly #started_ms = Date.now();
  #phase: Phase = "starting";
  #waitingFor: string | null = "starting";
  #link: OuterLink | null = null;
  #vtepMacs: VtepMacs | null = null;
  #opened: OpenedStore | null = null;
  #network: Network | null = null;
  #keeper: LeaseKeeper | null = null;
  #path: DataPath | null = null;
  #leases = LeaseTable.EMPTY;
  #reconciler: Reconciler | null = null;
  readonly #settling = new Settling(() => {
    collectGarbage();
    pageOutFiles();
  });
  /** Rejects with a failure that only a new process can mend. */
  readonly #fatal = Promise.withResolvers<never>();

  /** `workerUrl` is the entry point of the packet loops' worker. */
  constructor(options: RunOptions, workerUrl: URL) {
    this.#options = options;
    this.#workerUrl = workerUrl;
    // Nobody may be waiting for it when it comes, or ever.
    this.#fatal.promise.catch(() => {});
  }

  /**
   * Runs until the signal is aborted, then ends tidily. Rejects if it cannot start for a reason
   * that waiting does not mend. `listen` opens the API once there is something to ask for; what it
   * returns is closed first of all.
   */
  async run(signal: AbortSignal, listen: () => Promise<Closable>): Promise<void> {
    requireCapabilities("selvage run", "CAP_NET_ADMIN", "CAP_NET_RAW");
    requireTun();
    const socket = new NetlinkRouteSocket();
    let listeners: Closable | null = null;
    try {
      const connection = new NetlinkConnection(socket);
      this.#reconciler = new Reconciler(connection);
      this.#link = chooseOuterLink(connection, this.#options.link);
      this.#log.info`interface ${this.#link.name}, address ${this.#link.addresses.join(", ")}`;
      this.#opened = await openStore(this.#options, this.#link);
      this.#vtepMacs = loadVtepMacs(this.#options.stateDir, this.#link.publicAddresses);
      listeners = await listen();
      this.#putConfig(this.#opened);
      await this.#operate(signal);
    } finally {
      await this.#end(listeners);
      socket.close();
    }
  }

  /** Last of all that can be refused: a start that is refused changes nothing. */
  #putConfig({ newConfig }: OpenedStore): void {
    if (newConfig === null) return;
    this.#probe(newConfig.network);
    newConfig.put();
  }

  /** Throws if the network's tunnel cannot be opened on this host, or its subnet not be told. */
  #probe({ backend, config }: Network): void {
    probeWritable(this.#options.subnetFile);
    for (const tunnel of backend.tunnels(config, this.#link!, this.#vtepMacs!)) {
      probeTunnel(tunnel, this.#link!, this.#reconciler!);
    }
  }

  async #operate(signal: AbortSignal): Promise<void> {
    try {
      this.#network = await this.#awaitNetwork(signal);
      this.#probe(this.#network);
      const keeper = new LeaseKeeper({
        store: this.store,
        attributes: this.#attributes(this.#network),
        renewMargin_ms: this.#options.renewMargin_ms,
        onWaiting: (reason) => this.#waitingFor = reason,
      });
      this.#keeper = keeper;
      this.#phase = "waiting_for_lease";
      const lease = await keeper.acquire(this.#previousSubnets(), signal);
      await this.#openPath(lease);
      this.#settling.begin();
      await Promise.race([
        Promise.all([
          keeper.keep(signal, (moved) => this.#move(moved, signal)),
          this.#followLeases(signal),
        ]),
        this.#fatal.promise,
      ]);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** What this host publishes of itself under the configuration. */
  #attributes({ backend, config }: Network): LeaseAttributes {
    return backend.attributes(config, this.#link!, this.#vtepMacs!);
  }

  #awaitNetwork(signal: AbortSignal): Promise<Network> {
    return awaitNetwork(this.store, this.#link!, signal, (phase, reason) => {
      this.#phase = phase;
      this.#waitingFor = reason;
    });
  }

  #previousSubnets() {
    const file = readPreviousSubnets(this.#options.subnetFile);
    if (file.warning !== null) this.#log.warning`${file.warning}`;
    return file.subnets;
  }

  /** Brings packets to flow and tells the host's other programs which subnet is theirs. */
  async #openPath(lease: Lease): Promise<void> {
    const { config, backend } = this.#network!;
    this.#path = await DataPath.open({
      config,
      backend,
      link: this.#link!,
      vtepMacs: this.#vtepMacs!,
      lease,
      reconciler: this.#reconciler!,
      workerUrl: this.#workerUrl,
      peers: () => this.#peers(),
      onFatal: this.#fatal.reject,
      onChecked: () => void setTimeout(unmapCode, REST_MS).unref(),
      offloads: this.#options.offloads,
      workerCount: workerCount(this.#options.workers, availableParallelism()),
    });
    writeSubnetFile(this.#options.subnetFile, {
      network: config,
      subnets: lease.subnets,
      mtu_bytes: this.#path.mtu_bytes,
      ipMasq: this.#options.ipMasq,
    });
    this.#phase = "ready";
    this.#waitingFor = null;
    const state = `holding ${leaseKey(lease.subnets)}, backend ${config.backend.type}`;
    this.#log.info`selvage ${VERSION} is ready: ${state}`;
    this.#notify(`READY=1\nSTATUS=${state}`);
  }

  async #closePath(): Promise<void> {
    const path = this.#path;
    this.#path = null;
    await path?.close();
  }

  #notify(state: string): void {
    try {
      notifyServiceManager(state);
    } catch (error) {
      this.#log.warning`cannot tell the service manager: ${errorText(error)}`;
    }
  }

  /** Goes on with other subnets than before, under the configuration of now, until that stands. */
  async #move(lease: Lease, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(MOVE_RETRY_FIRST_MS, MOVE_RETRY_MAX_MS);
    this.#phase = "starting";
    this.#waitingFor = `moving to ${leaseKey(lease.subnets)}`;
    while (!signal.aborted) {
      await this.#closePath();
      try {
        this.#network = await this.#awaitNetwork(signal);
        await this.#openPath(lease);
        this.#keeper?.publish(this.#attributes(this.#network));
        return;
      } catch (error) {
        if (signal.aborted) return;
        this.#waitingFor = `cannot move to ${leaseKey(lease.subnets)}: ${errorText(error)}`;
        this.#log.error`${this.#waitingFor}`;
        await pause(backoff.next_ms(), signal);
      }
    }
  }

  async #followLeases(signal: AbortSignal): Promise<void> {
    for await (const changes of this.store.watch(signal)) {
      this.#leases = this.#leases.apply(changes);
      // Asked first: a record that nobody wants is made all the same, for each of thousands.
      if (this.#log.isEnabledFor("debug")) {
        for (const change of changes) this.#log.debug`lease ${change.key}: ${change.type}`;
      }
      this.#keeper?.observe(this.#leases);
      this.#path?.update();
      this.#settling.count(changes.length);
    }
  }

  /** Every lease but our own, in the order of the subnets. */
  #peers(): Lease[] {
    const held = this.#keeper?.lease;
    const own = held ? this.#leases.getBySubnets(held.subnets) : undefined;
    return this.#leases.leases.filter((lease) => lease !== own);
  }

  async #release(): Promise<void> {
    const lease = this.#keeper?.lease ?? null;
    if (!this.#options.releaseOnExit || lease === null) return;
    await this.#opened?.store.release(lease, AbortSignal.timeout(RELEASE_TIMEOUT_MS));
  }

  /** Closes everything, each part whatever became of the others. */
  async #end(listeners: Closable | null): Promise<void> {
    this.#phase = "stopping";
    this.#waitingFor = "stopping";
    this.#notify("STOPPING=1");
    const steps: [string, () => Promise<void> | undefined][] = [
      ["close the API", () => listeners?.close()],
      ["give the lease back", () => this.#release()],
      ["close the data path", () => this.#closePath()],
      ["close the store", () => this.#opened?.close()],
    ];
    for (const [what, step] of steps) {
      try {
        await step();
      } catch (error) {
        this.#log.error`cannot ${what}: ${errorText(error)}`;
      }
    }
  }

  get store(): LeaseStore {
    if (this.#opened !== null) return this.#opened.store;
    throw new SelvageError("unavailable", "the store is not open yet");
  }

  get tokens(): TokenAdmin {
    if (this.#opened !== null) return this.#opened.tokens;
    throw new SelvageError("unavailable", "the store is not open yet");
  }

  config(): Promise<NetworkConfig> {
    return this.store.readConfig();
  }

  status(): Status {
    return snapshot({
      started_ms: this.#started_ms,
      phase: this.#phase,
      waitingFor: this.#waitingFor,
      link: this.#link,
      config: this.#network?.config ?? null,
      lease: this.#keeper?.lease ?? null,
      expiry_ms: this.#keeper?.expiry_ms ?? null,
      renewal_ms: this.#keeper?.renewal_ms ?? null,
      path: this.#path,
      peers: this.#peers(),
      store: this.#opened?.store.state() ?? null,
      registry: this.#opened?.registry ?? null,
    });
  }

  readiness(): Readiness {
    const now_ms = Date.now();
    const reasons: string[] = [];
    if (this.#waitingFor !== null) reasons.push(this.#waitingFor);
    reasons.push(...(this.#path?.problems ?? []));
    if (this.#path?.status()?.running === false) reasons.push("the data plane is not running");
    const expiry_ms = this.#keeper?.expiry_ms ?? null;
    if (expiry_ms !== null && expiry_ms < now_ms) reasons.push("the lease has run out");
    const store = this.#opened?.store.state();
    if (store && !store.connected && now_ms - store.since_ms > STORE_LOSS_READY_MS) {
      reasons.push(`the store cannot be reached: ${store.lastError ?? store.location}`);
    }
    return { ready: this.#phase === "ready" && reasons.length === 0, reasons };
  }
}
