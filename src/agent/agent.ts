/**
 * The agent: the only place that knows store, lease, backend, kernel and data plane. It starts and
 * stops them, and keeps the state that the API shows.
 */
import { NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import type { AgentControl, Readiness, TokenAdmin } from "../api/control.ts";
import type { Backend } from "../backend/backend.ts";
import { selectBackend } from "../backend/select.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { checkOuterAddresses } from "../config/parse_network_config.ts";
import { errorText, hasCode, SelvageError } from "../errors.ts";
import { chooseOuterLink, type OuterLink } from "../kernel/outer_link.ts";
import { Reconciler } from "../kernel/reconciler.ts";
import { type Lease, leaseKey } from "../lease/lease.ts";
import { LeaseTable } from "../lease/lease_table.ts";
import { readPreviousSubnets, writeSubnetFile } from "../lease/subnet_file.ts";
import { logger } from "../log.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import type { LeaseStore } from "../store/store.ts";
import { VERSION } from "../version.ts";
import { DataPath } from "./data_path.ts";
import { LeaseKeeper } from "./lease_keeper.ts";
import { type OpenedStore, openStore } from "./open_store.ts";
import type { RunOptions } from "./options.ts";
import { requireCapabilities, requireTun } from "./preflight.ts";
import { Backoff, pause } from "../retry.ts";
import { notifyServiceManager } from "./service_manager.ts";
import { snapshot } from "./snapshot.ts";
import type { Phase, Status } from "./status.ts";

/** flannel's: a configuration that is missing or invalid is asked for each second, for ever. */
const CONFIG_RETRY_MS = 1_000;
/** How long the store may be away before the node says that it is not ready. */
const STORE_LOSS_READY_MS = 60_000;

export interface Closable {
  close(): Promise<void>;
}

/** What the network's configuration means on this host. */
interface Network {
  readonly config: NetworkConfig;
  readonly backend: Backend;
}

export class Agent implements AgentControl {
  readonly #options: RunOptions;
  readonly #workerUrl: URL;
  readonly #log = logger("agent");
  readonly #started_ms = Date.now();
  #phase: Phase = "starting";
  #waitingFor: string | null = "starting";
  #link: OuterLink | null = null;
  #opened: OpenedStore | null = null;
  #network: Network | null = null;
  #keeper: LeaseKeeper | null = null;
  #path: DataPath | null = null;
  #leases = LeaseTable.EMPTY;
  #reconciler: Reconciler | null = null;

  /** `workerUrl` is the entry point of the packet loops' worker. */
  constructor(options: RunOptions, workerUrl: URL) {
    this.#options = options;
    this.#workerUrl = workerUrl;
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
    const connection = new NetlinkConnection(socket);
    let listeners: Closable | null = null;
    try {
      this.#reconciler = new Reconciler(connection);
      this.#link = chooseOuterLink(connection, this.#options.link);
      this.#log.info`interface ${this.#link.name}, address ${this.#link.addresses.join(", ")}`;
      this.#opened = await openStore(this.#options, this.#link);
      listeners = await listen();
      await this.#operate(signal);
    } finally {
      await listeners?.close();
      await this.#end();
      socket.close();
    }
  }

  async #operate(signal: AbortSignal): Promise<void> {
    try {
      const network = await this.#awaitNetwork(signal);
      this.#network = network;
      const keeper = new LeaseKeeper({
        store: this.store,
        attributes: network.backend.attributes(this.#link!),
        renewMargin_ms: this.#options.renewMargin_ms,
        onWaiting: (reason) => this.#waitingFor = reason,
      });
      this.#keeper = keeper;
      const lease = await keeper.acquire(this.#previousSubnets(), signal);
      this.#path = await this.#openPath(lease);
      this.#announce(lease);
      await Promise.all([
        keeper.keep(signal, (moved) => this.#move(moved, signal)),
        this.#followLeases(signal),
      ]);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** Waits until the store has a configuration that this host can obey. */
  async #awaitNetwork(signal: AbortSignal): Promise<Network> {
    while (true) {
      signal.throwIfAborted();
      try {
        const config = await this.store.readConfig(signal);
        return this.#judge(config);
      } catch (error) {
        signal.throwIfAborted();
        if (hasCode(error, "unauthorized")) throw error;
        const reason = errorText(error);
        this.#phase = hasCode(error, "unavailable") ? "waiting_for_store" : "waiting_for_config";
        if (reason !== this.#waitingFor) this.#log.warning`waiting: ${reason}`;
        this.#waitingFor = reason;
      }
      await pause(CONFIG_RETRY_MS, signal);
    }
  }

  #judge(config: NetworkConfig): Network {
    checkOuterAddresses(config, this.#link!.addresses);
    const backend = selectBackend(config);
    backend.tunnel(config);
    return { config, backend };
  }

  #previousSubnets() {
    const file = readPreviousSubnets(this.#options.subnetFile);
    if (file.warning !== null) this.#log.warning`${file.warning}`;
    return file.subnets;
  }

  #openPath(lease: Lease): Promise<DataPath> {
    return DataPath.open({
      ...this.#network!,
      link: this.#link!,
      lease,
      reconciler: this.#reconciler!,
      workerUrl: this.#workerUrl,
      offloads: this.#options.offloads,
    });
  }

  /** Tells the host's other programs which subnet is theirs, and that packets flow. */
  #announce(lease: Lease): void {
    const { config } = this.#network!;
    writeSubnetFile(this.#options.subnetFile, {
      network: config,
      subnets: lease.subnets,
      mtu_bytes: this.#path!.mtu_bytes,
      ipMasq: this.#options.ipMasq,
    });
    this.#phase = "ready";
    this.#waitingFor = null;
    const state = `holding ${leaseKey(lease.subnets)}, backend ${config.backend.type}`;
    this.#log.info`selvage ${VERSION} is ready: ${state}`;
    this.#notify(`READY=1\nSTATUS=${state}`);
  }

  #notify(state: string): void {
    try {
      notifyServiceManager(state);
    } catch (error) {
      this.#log.warning`cannot tell the service manager: ${errorText(error)}`;
    }
  }

  /** Goes on with other subnets than before. Tries until the path stands. */
  async #move(lease: Lease, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(CONFIG_RETRY_MS, 30_000);
    await this.#path?.close();
    this.#path = null;
    while (!signal.aborted) {
      try {
        this.#path = await this.#openPath(lease);
        this.#path.apply(this.#peers());
        this.#announce(lease);
        return;
      } catch (error) {
        this.#waitingFor = `cannot move to ${leaseKey(lease.subnets)}: ${errorText(error)}`;
        this.#log.error`${this.#waitingFor}`;
        await pause(backoff.next_ms(), signal);
      }
    }
  }

  async #followLeases(signal: AbortSignal): Promise<void> {
    for await (const changes of this.store.watch(signal)) {
      this.#leases = this.#leases.apply(changes);
      this.#keeper?.observe(changes);
      for (const change of changes) {
        this.#log.debug`lease ${change.key}: ${change.type}`;
      }
      try {
        this.#path?.apply(this.#peers());
      } catch (error) {
        this.#log.error`cannot bring the peers up to date: ${errorText(error)}`;
      }
    }
  }

  #peers(): Lease[] {
    const own = this.#keeper?.lease;
    const ownKey = own ? leaseKey(own.subnets) : null;
    return this.#leases.leases.filter((lease) => leaseKey(lease.subnets) !== ownKey);
  }

  async #end(): Promise<void> {
    this.#phase = "stopping";
    this.#waitingFor = "stopping";
    this.#notify("STOPPING=1");
    const lease = this.#keeper?.lease ?? null;
    if (this.#options.releaseOnExit && lease !== null) {
      await this.#opened?.store.release(lease).catch((error) => {
        this.#log.warning`cannot give the lease back: ${errorText(error)}`;
      });
    }
    await this.#path?.close();
    this.#path = null;
    await this.#opened?.close();
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
    if (this.#path?.status()?.running === false) reasons.push("the data plane is not running");
    const lease = this.#keeper?.lease;
    if (lease && lease.expiry_ms !== null && lease.expiry_ms < now_ms) {
      reasons.push("the lease has run out");
    }
    const store = this.#opened?.store.state();
    if (store && !store.connected && now_ms - store.since_ms > STORE_LOSS_READY_MS) {
      reasons.push(`the store cannot be reached: ${store.lastError ?? store.location}`);
    }
    return { ready: this.#phase === "ready" && reasons.length === 0, reasons };
  }
}
