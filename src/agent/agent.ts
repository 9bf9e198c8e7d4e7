/**
 * The agent: the only place that knows store, lease, backend, kernel and data plane. It starts and
 * stops them, and keeps the state that the API shows.
 */
import { availableParallelism } from "node:os";
import { NETLINK_NETFILTER, NETLINK_ROUTE } from "../../ffi/netlink_listener.ts";
import { NetlinkNetfilterSocket, NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { collectGarbage, pageOutFiles } from "../../ffi/page_out.ts";
import type { AgentControl, Readiness, TokenAdmin } from "../api/control.ts";
import type { VtepMacs } from "../backend/backend.ts";
import type { NetworkConfig, SubnetRange } from "../config/network_config.ts";
import { errorText, SelvageError } from "../errors.ts";
import { probeWritable } from "../files.ts";
import { planFirewall } from "../backend/plan_firewall.ts";
import { withCommandData } from "../backend/extension.ts";
import type { HostFeatures } from "../backend/select.ts";
import { Firewall } from "../kernel/firewall.ts";
import { FIREWALL_TABLE } from "../kernel/firewall_state.ts";
import { chooseOuterLink, isSameOuterLink, type OuterLink } from "../kernel/outer_link.ts";
import { hasKernelVxlan } from "../kernel/probe.ts";
import { Reconciler } from "../kernel/reconciler.ts";
import { judge } from "../kernel/relevance.ts";
import type { DesiredSysctl } from "../kernel/state.ts";
import { type Lease, type LeaseAttributes, leaseKey } from "../lease/lease.ts";
import { LeaseTable } from "../lease/lease_table.ts";
import { readPreviousSubnets, writeSubnetFile } from "../lease/subnet_file.ts";
import { logger } from "../log.ts";
import { ofFamily } from "../net/ip.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import type { NetlinkMessage } from "../netlink/message.ts";
import type { Miss } from "../netlink/neighbour.ts";
import { NFNLGRP_NFTABLES, notifiedTable } from "../netlink/nftables/notification.ts";
import * as notification from "../netlink/notification.ts";
import type { LeaseStore } from "../store/store.ts";
import { VERSION } from "../version.ts";
import { DataPath } from "./data_path.ts";
import type { Extension } from "./extension.ts";
import { followKernel } from "./kernel_watch.ts";
import { LeaseKeeper } from "./lease_keeper.ts";
import { awaitNetwork, type Network } from "./network.ts";
import { type OpenedStore, openStore } from "./open_store.ts";
import { probeTunnel } from "./open_tunnel.ts";
import type { RunOptions } from "./options.ts";
import { requireCapabilities, requireTun } from "./preflight.ts";
import { Backoff, pause } from "../retry.ts";
import { Pace } from "./pace.ts";
import { notifyServiceManager } from "./service_manager.ts";
import { restSoon, Settling } from "./settling.ts";
import { snapshot } from "./snapshot.ts";
import type { Phase, Status } from "./status.ts";
import { keepVtepMacs, loadVtepMacs } from "./vtep_macs.ts";
import { workerCount } from "./worker_count.ts";

const MOVE_RETRY_FIRST_MS = 1_000;
const MOVE_RETRY_MAX_MS = 30_000;
/** How long a tidy end waits for a registry that may be away. */
const RELEASE_TIMEOUT_MS = 3_000;
/** How long the store may be away before the node says that it is not ready. */
const STORE_LOSS_READY_MS = 60_000;

const ROUTE_GROUPS = [
  notification.RTNLGRP_LINK,
  notification.RTNLGRP_NEIGH,
  notification.RTNLGRP_IPV4_IFADDR,
  notification.RTNLGRP_IPV4_ROUTE,
  notification.RTNLGRP_IPV6_IFADDR,
  notification.RTNLGRP_IPV6_ROUTE,
  notification.RTNLGRP_NEXTHOP,
  notification.RTNLGRP_IPV4_NETCONF,
  notification.RTNLGRP_IPV6_NETCONF,
];

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
  /** What the network's PreStartupCommand printed. */
  #commandData: string | null = null;
  #leases = LeaseTable.EMPTY;
  #arePeersKnown = false;
  #signal: AbortSignal | null = null;
  /** Why the outer interface is not what it was. */
  #linkProblem: string | null = null;
  #connection: NetlinkConnection | null = null;
  #reconciler: Reconciler | null = null;
  readonly #firewall = new Firewall(() => new NetlinkConnection(new NetlinkNetfilterSocket()));
  #hasKernelVxlan: boolean | null = null;
  /** What the agent does to its own path, one thing after another. */
  #turn: Promise<void> = Promise.resolve();
  readonly #linkPace = new Pace(() => this.#checkOuterLink());
  readonly #host: HostFeatures = {
    hasKernelVxlan: () => this.#hasKernelVxlan ??= hasKernelVxlan(this.#connection!),
  };
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
    const socket = new NetlinkRouteSocket();
    let listeners: Closable | null = null;
    try {
      const connection = new NetlinkConnection(socket);
      this.#connection = connection;
      this.#reconciler = new Reconciler(connection);
      this.#link = chooseOuterLink(connection, this.#options.link);
      this.#log.info`interface ${this.#link.name}, address ${this.#link.addresses.join(", ")}`;
      this.#opened = await openStore(this.#options, { link: this.#link, host: this.#host });
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
    const tunnels = backend.tunnels(config, this.#link!, this.#vtepMacs!);
    if (tunnels.length > 0) requireTun();
    for (const tunnel of tunnels) {
      probeTunnel(tunnel, this.#link!, this.#reconciler!);
    }
  }

  async #operate(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    try {
      this.#network = await this.#awaitNetwork(signal);
      this.#probe(this.#network);
      await this.#prepare(this.#network, signal);
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
          keeper.keep(signal, () => this.#move(keeper, signal)),
          this.#followLeases(signal),
          this.#followKernel(signal),
        ]),
        this.#fatal.promise,
      ]);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** What this host publishes of itself under the configuration. */
  #attributes({ backend, config }: Network): LeaseAttributes {
    const attributes = backend.attributes(config, this.#link!, this.#vtepMacs!);
    return withCommandData(attributes, this.#commandData);
  }

  /** Runs what the network's configuration names for before a lease is asked for. */
  async #prepare({ backend, config }: Network, signal: AbortSignal): Promise<void> {
    this.#commandData = null;
    const commands = backend.commands?.(config);
    if (commands === undefined) return;
    const { runPreStartup } = await import("./extension.ts");
    this.#commandData = await runPreStartup(commands, signal, (reason) => {
      if (reason !== this.#waitingFor) this.#log.warning`${reason}`;
      this.#phase = "starting";
      this.#waitingFor = reason;
    });
  }

  /** Starts the user's commands, of a backend that has some. */
  async #startExtension({ backend, config }: Network, lease: Lease): Promise<Extension | null> {
    const commands = backend.commands?.(config);
    if (commands === undefined) return null;
    const { Extension } = await import("./extension.ts");
    const extension = new Extension({
      commands,
      network: `${ofFamily<SubnetRange>(config.ranges, 4)!.network}`,
      subnet: `${ofFamily(lease.subnets, 4)!}`,
      publicAddress: `${ofFamily(this.#link!.publicAddresses, 4)!}`,
    });
    await extension.start(this.#signal!);
    return extension;
  }

  #awaitNetwork(signal: AbortSignal): Promise<Network> {
    const link = () => this.#currentLink();
    return awaitNetwork(this.store, link, this.#host, signal, (phase, reason) => {
      this.#phase = phase;
      this.#waitingFor = reason;
    });
  }

  /** While the start waits nothing else follows the interface: an address may come late. */
  #currentLink(): OuterLink {
    try {
      const link = chooseOuterLink(this.#connection!, this.#options.link);
      const before = this.#link!;
      if (this.#path === null && !isSameOuterLink(link, before)) this.#link = link;
    } catch (error) {
      this.#log.debug`outer interface: ${errorText(error)}`;
    }
    return this.#link!;
  }

  #previousSubnets() {
    const file = readPreviousSubnets(this.#options.subnetFile);
    if (file.warning !== null) this.#log.warning`${file.warning}`;
    return file.subnets;
  }

  /** What the host needs for packets of these families to go on their way. */
  #forwardingSysctls({ config }: Network): DesiredSysctl[] {
    return config.ranges.map(({ family }) => ({
      path: family === 4 ? "net/ipv4/ip_forward" : "net/ipv6/conf/all/forwarding",
      value: "1",
      isSet: this.#options.setsSysctls,
    }));
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
      firewall: this.#firewall,
      firewallTables: planFirewall({
        networks: config.ranges.map(({ network }) => network),
        subnets: lease.subnets,
        ipMasq: this.#options.ipMasq,
        isFullyRandom: this.#options.isMasqFullyRandom,
        forwardRules: this.#options.forwardRules,
      }),
      sysctls: this.#forwardingSysctls(this.#network!),
      extension: await this.#startExtension(this.#network!, lease),
      workerUrl: this.#workerUrl,
      peers: () => this.#peers(),
      arePeersKnown: () => this.#arePeersKnown,
      onFatal: this.#fatal.reject,
      onChecked: restSoon,
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
    const problems = this.#path.problems.length > 0 ? ", with problems" : "";
    this.#log.info`selvage ${VERSION} is ready${problems}: ${state}`;
    this.#notify(`READY=1\nSTATUS=${state}`);
  }

  async #closePath(isCleared = false): Promise<void> {
    const path = this.#path;
    this.#path = null;
    await path?.close({ isCleared });
  }

  #notify(state: string): void {
    try {
      notifyServiceManager(state);
    } catch (error) {
      this.#log.warning`cannot tell the service manager: ${errorText(error)}`;
    }
  }

  /** Goes on with other subnets than before, or over another link, until that stands. */
  #move(keeper: LeaseKeeper, signal: AbortSignal): Promise<void> {
    return this.#turn = this.#turn.then(() => this.#moveNow(keeper, signal));
  }

  async #moveNow(keeper: LeaseKeeper, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(MOVE_RETRY_FIRST_MS, MOVE_RETRY_MAX_MS);
    while (!signal.aborted && keeper.lease !== null) {
      this.#phase = "starting";
      const { lease } = keeper;
      const target = `${leaseKey(lease.subnets)} on ${this.#link!.name}`;
      this.#waitingFor = `moving to ${target}`;
      await this.#closePath();
      try {
        this.#network = await this.#awaitNetwork(signal);
        const link = this.#link!;
        await this.#prepare(this.#network, signal);
        keeper.publish(this.#attributes(this.#network));
        await this.#openPath(lease);
        if (isSameOuterLink(this.#link!, link)) return;
      } catch (error) {
        if (signal.aborted) return;
        this.#waitingFor = `cannot move to ${target}: ${errorText(error)}`;
        this.#log.error`${this.#waitingFor}`;
        await pause(backoff.next_ms(), signal);
      }
    }
  }

  async #followLeases(signal: AbortSignal): Promise<void> {
    for await (const changes of this.store.watch(signal)) {
      restSoon();
      if (changes.length === 0 && this.#arePeersKnown) continue;
      this.#leases = this.#leases.apply(changes);
      // Asked first: a record that nobody wants is made all the same, for each of thousands.
      if (this.#log.isEnabledFor("debug")) {
        for (const change of changes) this.#log.debug`lease ${change.key}: ${change.type}`;
      }
      this.#keeper?.observe(this.#leases);
      this.#arePeersKnown = true;
      this.#path?.update();
      this.#settling.count(changes.length);
    }
  }

  /** Has repaired at once what others change, and follows the outer interface. */
  async #followKernel(signal: AbortSignal): Promise<void> {
    const { ipMasq, forwardRules } = this.#options;
    await Promise.all([
      this.#followTables(signal),
      ipMasq || forwardRules ? this.#followFirewall(signal) : null,
    ]);
  }

  #followTables(signal: AbortSignal): Promise<void> {
    return followKernel({
      protocol: NETLINK_ROUTE,
      groups: ROUTE_GROUPS,
      take: (messages) => this.#takeNotifications(messages, signal),
      onGap: () => {
        this.#path?.check();
        this.#linkPace.run();
      },
    }, signal);
  }

  #followFirewall(signal: AbortSignal): Promise<void> {
    return followKernel({
      protocol: NETLINK_NETFILTER,
      groups: [NFNLGRP_NFTABLES],
      take: (messages) => {
        const isOurs = messages.some((one) => notifiedTable(one)?.name === FIREWALL_TABLE);
        if (isOurs) this.#path?.check();
      },
      onGap: () => this.#path?.check(),
    }, signal);
  }

  #takeNotifications(messages: readonly NetlinkMessage[], signal: AbortSignal): void {
    const path = this.#path;
    if (signal.aborted) return;
    // In the middle of a move: the interface that it is to may change once more.
    if (path === null) return this.#linkPace.run();
    const { interest } = path;
    const misses: Miss[] = [];
    let isOuterLink = false;
    let areTables = false;
    for (const message of messages) {
      for (const one of judge(message, interest)) {
        if (one === "tables") areTables = true;
        else if (one === "outer_link") isOuterLink = true;
        else misses.push(one);
      }
    }
    if (misses.length > 0) path.answer(misses);
    if (areTables) path.check();
    if (isOuterLink) this.#linkPace.run();
  }

  /** Follows the outer interface: another address, MTU or index, or another interface. */
  #checkOuterLink(): void {
    const keeper = this.#keeper;
    if (keeper === null || this.#network === null || this.#signal?.aborted !== false) return;
    const families = this.#network.config.ranges.map(({ family }) => family);
    let link: OuterLink;
    try {
      link = chooseOuterLink(this.#connection!, this.#options.link, families);
      this.#linkProblem = null;
    } catch (error) {
      // It may come back; until then all stays as it is.
      const problem = `outer interface ${this.#link!.name}: ${errorText(error)}`;
      if (problem !== this.#linkProblem) this.#log.warning`${problem}`;
      this.#linkProblem = problem;
      return;
    }
    const before = this.#link!;
    this.#link = link;
    if (isSameOuterLink(link, before)) return this.#path?.changeWays(link);
    this.#log.info`interface ${link.name} is another now, address ${link.addresses.join(", ")}`;
    try {
      keepVtepMacs(this.#options.stateDir, link.publicAddresses, this.#vtepMacs!);
    } catch (error) {
      this.#log.warning`${errorText(error)}`;
    }
    // A move that is under way takes it up.
    if (this.#path !== null) void this.#move(keeper, this.#signal);
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
    this.#linkPace.stop();
    const steps: [string, () => Promise<void> | void][] = [
      ["close the API", () => listeners?.close()],
      ["give the lease back", () => this.#release()],
      ["close the data path", () => this.#closePath(this.#options.releaseOnExit)],
      ["close the firewall", () => this.#firewall.close()],
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
      linkProblem: this.#linkProblem,
      peers: this.#peers(),
      store: this.#opened?.store.state() ?? null,
      registry: this.#opened?.registry ?? null,
    });
  }

  readiness(): Readiness {
    const now_ms = Date.now();
    const reasons: string[] = [];
    if (this.#waitingFor !== null) reasons.push(this.#waitingFor);
    if (this.#linkProblem !== null) reasons.push(this.#linkProblem);
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
