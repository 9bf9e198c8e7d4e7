/**
 * The agent: the only place that knows store, lease, backend, kernel and data plane. It starts and
 * stops them, and keeps the state that the API shows.
 */
import { availableParallelism } from "node:os";
import { collectGarbage, pageOutFiles } from "../../ffi/page_out.ts";
import { MACHINE_CLOCK, timeOfDay_ms } from "../clock.ts";
import type { VtepMacs } from "../backend/backend.ts";
import { withCommandData } from "../backend/extension.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { LoopHangs } from "../dataplane/dataplane.ts";
import { adviceText, errorText, SelvageError } from "../errors.ts";
import { chooseOuterLink, type OuterLink } from "../kernel/outer_link.ts";
import { isReservable } from "../lease/allocator.ts";
import { type Lease, type LeaseAttributes, leaseKey, type NodeMark } from "../lease/lease.ts";
import { readPreviousSubnets, type SubnetFile, writeSubnetFile } from "../lease/subnet_file.ts";
import { logger } from "../log.ts";
import type { Family, IpPrefix } from "../net/ip.ts";
import { listAddresses, listLinks } from "../netlink/rtnetlink.ts";
import { Backoff, pause, Retry } from "../retry.ts";
import { VERSION } from "../version.ts";
import { DataPath } from "./data_path.ts";
import { raiseBarrier } from "./barrier.ts";
import { ConfigWatch } from "./config_watch.ts";
import { HostKernel } from "./host_kernel.ts";
import { hostNeeds, unreachableAddresses } from "./host_needs.ts";
import type { KernelKeeper } from "./kernel_keeper.ts";
import type { AgentListeners } from "./listeners.ts";
import { keepLink, keptLinkPath, readKeptLink } from "./kept_outer_link.ts";
import { KnownLeases } from "./known_leases.ts";
import { LeftSubnets } from "./left_subnets.ts";
import { LeaseKeeper, STORE_ANSWER_MAX_MS } from "./lease_keeper.ts";
import {
  awaitNetwork,
  findStoreAway,
  judgeNetwork,
  leaseOverlap,
  type Network,
} from "./network.ts";
import { NodeControl } from "./node_control.ts";
import { keepNodeId, loadNodeId, nodeIdPath, randomId } from "./node_id.ts";
import { NodeMemory, type RememberedStart, startNotice } from "./node_memory.ts";
import { followFirewall, followTables } from "./notifications.ts";
import { type OpenedStore, openStore } from "./open_store.ts";
import { PortTaken } from "./open_tunnel.ts";
import type { RunOptions } from "./options.ts";
import { OuterLinkWatch } from "./outer_link_watch.ts";
import { requireCapabilities, requirePrivateStateDir } from "./preflight.ts";
import { PartedNotice } from "./parted_notice.ts";
import { awaitPlace, type Place, PLACE_RETRY_MS, requirePlace, whyNoPlace } from "./place.ts";
import { Progress } from "./progress.ts";
import { notifyServiceManager } from "./service_manager.ts";
import { restSoon, Settling } from "./settling.ts";
import {
  CHECK_INTERVAL_MS,
  keptCertificate,
  KeptFile,
  REGISTRY_CHECK_INTERVAL_MS,
  StateKeeper,
} from "./state_keeper.ts";
import type { NodeParts } from "./snapshot.ts";
import { prepareHost, startExtension } from "./start_commands.ts";
import { keepVtepMacs, loadVtepMacs, vtepMacsPath } from "./vtep_macs.ts";
import { vitalAddresses } from "./vital_addresses.ts";
import { workerCount } from "./worker_count.ts";

const MOVE_RETRY_FIRST_MS = 1_000;
const MOVE_RETRY_MAX_MS = 5_000;
/** How long a tidy end waits for a registry that may be away. */
const RELEASE_TIMEOUT_MS = 3_000;

export class Agent {
  readonly #options: RunOptions;
  readonly #workerUrl: URL;
  readonly #log = logger("agent");
  /** By the steady clock. */
  readonly #started_ms = MACHINE_CLOCK.steady_ms();
  readonly #progress = new Progress();
  /** Open while `run` runs. */
  #kernel: HostKernel | null = null;
  #outerLink: OuterLinkWatch | null = null;
  #vtepMacs: VtepMacs | null = null;
  /** Distinguishes this run of the daemon from other daemons in the store. */
  #mark: NodeMark | null = null;
  #opened: OpenedStore | null = null;
  #listeners: AgentListeners | null = null;
  #stateKeeper: StateKeeper | null = null;
  #memory: NodeMemory | null = null;
  #network: Network | null = null;
  #keeper: LeaseKeeper | null = null;
  #path: DataPath | null = null;
  /**
   * Content of the subnet file; null while the path does not stand, because it is not written then.
   */
  #subnetFile: SubnetFile | null = null;
  /** The outer link in use, kept for the next start; null: none was in use yet. */
  #keptLink: OuterLink | null = null;
  /** The path was opened, but something that serves all peers is still missing. */
  #isPathAwaited = false;
  /** The kernel may report nothing that leads to another try. */
  readonly #announceRetry = new Retry(
    () => this.#onPathChecked(),
    MOVE_RETRY_FIRST_MS,
    MOVE_RETRY_MAX_MS,
  );
  /** While there is no lease to be had. */
  #barrier: KernelKeeper | null = null;
  /** What the network's PreStartupCommand printed. */
  #commandData: string | null = null;
  readonly #leases = new KnownLeases();
  readonly #parted = new PartedNotice();
  readonly #configWatch = new ConfigWatch({
    network: () => this.#network!,
    judge: (config) => this.#judge(config),
    leasedSubnets: () => {
      const lease = this.#keeper?.lease ?? null;
      return lease === null || lease.expiry_ms === null ? null : lease.subnets;
    },
    onChanged: (network, isMoved) => {
      this.#network = network;
      this.#remember();
      if (isMoved) void this.#move(this.#keeper!, this.#signal!, false);
    },
  });
  #signal: AbortSignal | null = null;
  /** What the agent does to its own path, one thing after another. */
  #turn: Promise<void> = Promise.resolve();
  readonly #leftSubnets = new LeftSubnets({
    addresses: () => listAddresses(this.#kernel!.connection),
    links: () => listLinks(this.#kernel!.connection),
    outerLinkIndex: () => this.#outerLink?.link.index ?? null,
  });
  readonly #settling = new Settling(() => {
    collectGarbage();
    pageOutFiles();
  });
  /** For the API. */
  readonly control = new NodeControl({
    parts: () => this.#parts,
    details: () => this.#details,
    opened: () => this.#opened,
    leases: this.#leases,
    judge: (config) => void this.#judge(config),
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
  async run(signal: AbortSignal, listen: () => Promise<AgentListeners>): Promise<void> {
    requireCapabilities("selvage run", "CAP_NET_ADMIN", "CAP_NET_RAW");
    requirePrivateStateDir(this.#options.stateDir);
    this.#kernel = new HostKernel(this.#vitalAddresses, this.#options.allowsCommands);
    try {
      this.#outerLink = this.#watchOuterLink(this.#kernel);
      const link = this.#link;
      this.#log.info`interface ${link.name}, address ${link.addresses.join(", ")}`;
      this.#opened = await openStore(this.#options, {
        link: () => this.#link,
        host: this.#kernel.features,
      });
      this.#vtepMacs = loadVtepMacs(this.#options.stateDir, link.publicAddresses);
      this.#mark = { id: loadNodeId(this.#options.stateDir), run: randomId() };
      const { stateDir } = this.#options;
      const { identity: storeIdentity } = this.#opened;
      const peers = () => this.#leases.peers(this.#keeper);
      this.#memory = new NodeMemory({ stateDir, storeIdentity, peers });
      this.#listeners = await listen();
      this.#stateKeeper = this.#keepState(this.#opened);
      this.#putConfig(this.#opened);
      await this.#operate(signal);
    } finally {
      await this.#end();
    }
  }

  #keepState({ kept, identity }: OpenedStore): StateKeeper {
    const { stateDir, subnetFile } = this.#options;
    // Programs that tidy up may delete it, and without it no container can be made here.
    const subnets = new KeptFile(
      subnetFile,
      () => writeSubnetFile(subnetFile, this.#subnetFile!),
      () => this.#subnetFile !== null,
    );
    const vtepFile = new KeptFile(vtepMacsPath(stateDir), () => {
      keepVtepMacs(stateDir, this.#link.publicAddresses, this.#vtepMacs!);
    });
    const idFile = new KeptFile(nodeIdPath(stateDir), () => keepNodeId(stateDir, this.#mark!.id));
    // A failure to write these files is no problem of the host, because it stops no packets.
    const linkFile = new KeptFile(
      keptLinkPath(stateDir),
      () => keepLink(stateDir, this.#options.link, this.#keptLink!),
      () => this.#keptLink !== null,
    );
    const link = { check: () => linkFile.check(), failure: null };
    const memory = { check: () => this.#memory!.check(), failure: null };
    const parts = [...kept, subnets, vtepFile, idFile, link, memory, ...keptCertificate(stateDir)];
    const isRegistry = identity === null;
    return new StateKeeper(parts, isRegistry ? REGISTRY_CHECK_INTERVAL_MS : CHECK_INTERVAL_MS);
  }

  /** null: nothing is held against the network. */
  get #vitalAddresses() {
    const { allowsNetworkOverlap, join, etcd } = this.#options;
    if (allowsNetworkOverlap) return null;
    const etcdEndpoints = etcd?.endpoints ?? [];
    return vitalAddresses({ registry: join?.addresses ?? [], etcdEndpoints });
  }

  #watchOuterLink({ connection }: HostKernel): OuterLinkWatch {
    return new OuterLinkWatch({
      choose: (families, held) => chooseOuterLink(connection, this.#options.link, families, held),
      held: readKeptLink(this.#options.stateDir, this.#options.link),
      families: () => this.#familiesInUse(),
      onMoved: (link) => this.#followOuterLink(link),
      onSame: (link) => this.#path?.changeWays(link),
      // What the connections have not got through is sent again by TCP's timers, which have grown
      // as long as the link was away.
      onBack: () => this.control.store.reconnect(),
    });
  }

  /** null: there is no lease yet, or no longer. */
  #familiesInUse(): readonly Family[] | null {
    if (this.#keeper === null || this.#network === null || this.#signal?.aborted !== false) {
      return null;
    }
    return this.#network.config.ranges.map(({ family }) => family);
  }

  get #link(): OuterLink {
    return this.#outerLink!.link;
  }

  /** Throws if this host cannot obey the configuration. */
  #judge(config: NetworkConfig): Network {
    return judgeNetwork(config, this.#link, this.#kernel!.features);
  }

  /** Last of all that can be refused: a start that is refused changes nothing. */
  #putConfig({ newConfig }: OpenedStore): void {
    if (newConfig === null) return;
    this.#probe(newConfig.network);
    newConfig.put();
  }

  /** Throws if this host cannot bring the network's packets to flow, for a reason that stays. */
  #probe(network: Network): void {
    requirePlace(network, this.#place, this.#options.subnetFile);
  }

  get #place(): Place {
    return { kernel: this.#kernel!, link: this.#link, vtepMacs: this.#vtepMacs! };
  }

  async #operate(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    try {
      const remembered = this.#memory!.recall(
        this.#link.publicAddresses,
        (config) => this.#judge(config),
      );
      const isAway = remembered !== null && await this.#isStoreAway(signal);
      this.#network = isAway ? remembered.network : await this.#awaitNetwork(signal);
      const network = this.#network;
      if (isAway) {
        await awaitPlace(() => this.#whyNotMade(network), signal, (reason) => this.#wait(reason));
      }
      this.#probe(this.#network);
      await this.#prepare(this.#network, signal);
      const keeper = this.#makeKeeper(this.#network, remembered);
      this.#progress.enter("waiting_for_lease");
      const previous = this.#previousSubnets();
      this.#leftSubnets.hold(previous);
      const lease = isAway ? keeper.adopt() : await keeper.acquire(previous, signal);
      if (!keeper.isConfirmed) this.#startFromMemory(remembered!);
      this.#warnOfLeftSubnets(this.#leftSubnets.hold(lease.subnets), lease);
      await this.#openFirstPath(lease, signal);
      // No notification reported changes of the interface while there was no path.
      this.#outerLink!.check();
      this.#settling.begin();
      await Promise.race([
        Promise.all([
          keeper.keep(signal, ({ subnets }) => {
            this.#leftSubnets.hold(subnets);
            return this.#move(keeper, signal, true);
          }),
          this.#followLeases(signal),
          this.#configWatch.follow(this.control.store, signal),
          ...this.#followKernel(signal),
        ]),
        this.#fatal.promise,
      ]);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** Tries again if another program has taken a port since that was looked at. */
  async #openFirstPath(lease: Lease, signal: AbortSignal): Promise<void> {
    while (true) {
      this.#wait("setting up the device, addresses and routes");
      try {
        return await this.#openPath(lease);
      } catch (error) {
        if (!(error instanceof PortTaken)) throw error;
        this.#wait(adviceText(error));
        this.#log.warning`${this.#progress.waitingFor}`;
        await pause(PLACE_RETRY_MS, signal);
        signal.throwIfAborted();
      }
    }
  }

  async #isStoreAway(signal: AbortSignal): Promise<boolean> {
    const onSilent = (reason: string) => {
      this.#log.warning`waiting: ${reason}`;
      this.#progress.enter("waiting_for_store", reason);
    };
    const { store } = this.control;
    const reason = await findStoreAway(store, signal, STORE_ANSWER_MAX_MS, onSilent);
    if (reason !== null) this.#log.warning`the store is away: ${reason}`;
    return reason !== null;
  }

  #makeKeeper(network: Network, remembered: RememberedStart | null): LeaseKeeper {
    const attributes = this.#attributes(network);
    const isSame = remembered?.network.config.backend.type === network.config.backend.type &&
      isReservable(network.config, remembered.lease.subnets);
    return this.#keeper = new LeaseKeeper({
      store: this.control.store,
      attributes,
      renewMargin_ms: this.#options.renewMargin_ms,
      remembered: isSame ? remembered : null,
      onTaken: () => this.#remember(),
      onWaiting: (reason) => this.#progress.wait(reason),
      onNone: (reason) => this.#stopForwarding(reason),
    });
  }

  /** Starts from what an earlier run knew; it counts until the store is back. */
  #startFromMemory({ peers }: RememberedStart): void {
    this.#leases.remember(peers());
    this.#log.warning`${startNotice(this.#keeper!, this.#leases)}`;
  }

  /** Keeps what a start without the store needs, once the store has said it. */
  #remember(): void {
    const keeper = this.#keeper;
    if (keeper === null || keeper.lease === null || !keeper.isConfirmed) return;
    const { lease, taken_ms } = keeper;
    this.#memory!.keepLease({ lease, taken_ms }, this.#network!.config);
  }

  /** What this host publishes of itself under the configuration. */
  #attributes({ backend, config }: Network): LeaseAttributes {
    const attributes = backend.attributes(config, this.#link, this.#vtepMacs!);
    return { ...withCommandData(attributes, this.#commandData), node: this.#mark! };
  }

  /** Runs what the network's configuration names for before a lease is asked for. */
  async #prepare(network: Network, signal: AbortSignal): Promise<void> {
    this.#commandData = null;
    this.#commandData = await prepareHost(network, signal, {
      onRun: (text) => this.#wait(text),
      onFailure: (reason) => {
        if (reason !== this.#progress.waitingFor) this.#log.warning`${reason}`;
        this.#wait(reason);
      },
    });
  }

  #wait(reason: string): void {
    this.#progress.enter("starting", reason);
  }

  #awaitNetwork(signal: AbortSignal): Promise<Network> {
    // While the start waits nothing else follows the interface.
    const link = () => this.#outerLink!.refresh();
    const { features } = this.#kernel!;
    const whyNotMade = (network: Network) => this.#whyNotMade(network);
    const hasLeftovers = () => this.#kernel!.hasLeftovers();
    const { store } = this.control;
    return awaitNetwork(
      store,
      link,
      features,
      signal,
      whyNotMade,
      hasLeftovers,
      (phase, reason) => {
        this.#progress.enter(phase, reason);
      },
    );
  }

  /**
   * Why the network's devices and ports cannot be had, such as a VNI that flanneld's device has;
   * null: they can. Peers send to what a lease names: it is published only if it can be there.
   */
  #whyNotMade(network: Network): string | null {
    const why = whyNoPlace(network, this.#place);
    if (why === null) return null;
    // Containers of an earlier run may exist, and their packets must not leave by another route.
    const unreachable = unreachableAddresses(network, this.#options);
    for (const failure of this.#kernel!.reconciler.block(unreachable)) {
      this.#log.warning`${failure}`;
    }
    return why;
  }

  /** The previous network on the present link. Throws if this host cannot be in it as it is. */
  #rejudge(config: NetworkConfig): Network {
    const network = this.#judge(config);
    const obstacle = this.#whyNotMade(network);
    if (obstacle !== null) throw new SelvageError("conflict", obstacle);
    return network;
  }

  /** Who moved while we did not run is to know it: containers have addresses of the old one. */
  #warnOfLeftSubnets(left: readonly IpPrefix[], { subnets }: Lease): void {
    if (left.length === 0) return;
    const both = `${left.join(", ")}, and now holds ${subnets.join(", ")}`;
    this.#log.warning`this host held ${both}: containers made before must be made anew`;
  }

  #previousSubnets() {
    const file = readPreviousSubnets(this.#options.subnetFile);
    if (file.warning !== null) this.#log.warning`${file.warning}`;
    // Files under /run may go when the service stops. The state directory stays.
    return file.subnets.length > 0 ? file.subnets : this.#memory!.previousSubnets;
  }

  /** Brings packets to flow and tells the host's other programs which subnet is theirs. */
  async #openPath(lease: Lease): Promise<void> {
    const network = this.#network!;
    const link = this.#link;
    this.#isPathAwaited = false;
    // What it put into the kernel goes when the path's own stands.
    this.#barrier?.stop();
    this.#barrier = null;
    this.#path = await DataPath.open({
      ...network,
      ...hostNeeds(network, lease, this.#options),
      link,
      vtepMacs: this.#vtepMacs!,
      lease,
      reconciler: this.#kernel!.reconciler,
      firewall: this.#kernel!.firewall,
      forwardAccepts: this.#kernel!.forwardAccepts,
      extension: await startExtension(network, lease, link, this.#signal!, (text) => {
        this.#wait(text);
      }),
      workerUrl: this.#workerUrl,
      peers: () => this.#leases.peers(this.#keeper),
      arePeersKnown: () => this.#leases.isKnown,
      signal: this.#signal!,
      onLate: (text) => {
        if (this.#path === null) this.#wait(text);
      },
      onFatal: this.#fatal.reject,
      onChecked: () => {
        restSoon();
        this.#onPathChecked();
        this.#partedProblem();
      },
      offloads: this.#options.offloads,
      trustsUnderlay: this.#options.trustsUnderlay,
      allowsOutsideSources: this.#options.allowsOutsideSources,
      workerCount: workerCount(this.#options.workers, availableParallelism()),
      isGuarded: this.#options.isGuarded,
    });
    this.#announcePath();
  }

  /**
   * Once the path stands, tells the host's other programs which subnet is theirs, and says that the
   * start is through. Before that containers would be made whose packets go nowhere. Throws if the
   * subnet file cannot be written.
   */
  #announcePath(): void {
    const { missing, mtu_bytes, origin: { config, lease, link } } = this.#path!;
    this.#isPathAwaited = missing.length > 0;
    if (this.#isPathAwaited) return this.#wait(`no packets can be carried yet: ${missing[0]}`);
    const { subnetFile: file, ipMasq } = this.#options;
    const content = { network: config, subnets: lease.subnets, mtu_bytes, ipMasq };
    writeSubnetFile(file, content);
    this.#subnetFile = content;
    this.#keepLink(link);
    this.#progress.enter("ready", null);
    const state = `holding ${leaseKey(lease.subnets)}, backend ${config.backend.type}`;
    const how = this.control.readiness().ready ? "is ready" : "has started, but is not ready";
    this.#log.info`selvage ${VERSION} ${how}: ${state}`;
    this.#notify(`READY=1\nSTATUS=${state}`);
  }

  #onPathChecked(): void {
    if (this.#path === null || !this.#isPathAwaited) return;
    let reason = "";
    try {
      this.#announcePath();
    } catch (error) {
      this.#isPathAwaited = true;
      reason = errorText(error);
      if (reason !== this.#progress.waitingFor) this.#log.error`${reason}`;
      this.#wait(reason);
    }
    this.#announceRetry.settle(reason);
  }

  /** Lets the next start keep this link. A failure does no harm. */
  #keepLink(link: OuterLink): void {
    const { stateDir, link: choice } = this.#options;
    this.#keptLink = link;
    try {
      keepLink(stateDir, choice, link);
    } catch (error) {
      this.#log.warning`${errorText(error)}`;
    }
  }

  async #closePath(isCleared = false, isForGood = false): Promise<void> {
    const path = this.#path;
    this.#path = null;
    this.#subnetFile = null;
    this.#isPathAwaited = false;
    this.#announceRetry.stop();
    await path?.close({ isCleared, isForGood });
  }

  /** With --release-on-exit nothing of ours stays, also not of an earlier run. */
  async #closeForGood(): Promise<void> {
    const isCleared = this.#options.releaseOnExit;
    const isOpen = this.#path !== null || this.#barrier !== null;
    await this.#closePath(isCleared, true);
    this.#barrier?.stop();
    if (isCleared) this.#barrier?.clear(true);
    // A start that was refused changes nothing: another's may be running.
    if (!isCleared || isOpen || this.#signal?.aborted !== true) return;
    for (const problem of this.#kernel!.clear()) this.#log.warning`${problem}`;
    this.#log.info`removed from the kernel what an earlier run left`;
  }

  #notify(state: string): void {
    try {
      notifyServiceManager(state);
    } catch (error) {
      this.#log.warning`cannot tell the service manager: ${errorText(error)}`;
    }
  }

  /**
   * Goes on with other subnets than before, or over another link, until that stands.
   * `isConfigRead`: with the configuration that the store has now. Never rejects: what only a new
   * process can mend ends `run`.
   */
  #move(keeper: LeaseKeeper, signal: AbortSignal, isConfigRead: boolean): Promise<void> {
    return this.#turn = this.#turn.then(() => this.#moveNow(keeper, signal, isConfigRead))
      .catch(this.#fatal.reject);
  }

  /**
   * Forwards nothing, until there is a lease again: what an earlier run left, or this one set up,
   * serves subnets that are another's now.
   */
  #stopForwarding(reason: string): Promise<void> {
    return this.#turn = this.#turn.then(async () => {
      await this.#closePath(true);
      this.#barrier?.stop();
      this.#barrier = raiseBarrier(this.#network!, this.#leftSubnets.held, this.#options, {
        reconciler: this.#kernel!.reconciler,
        firewall: this.#kernel!.firewall,
        forwardAccepts: this.#kernel!.forwardAccepts,
        outerLink: this.#link,
        onChecked: restSoon,
      });
      this.#progress.enter("waiting_for_lease", reason);
      this.#log.warning`packets are not forwarded until there is a lease`;
    }).catch(this.#fatal.reject);
  }

  async #moveNow(keeper: LeaseKeeper, signal: AbortSignal, isConfigRead: boolean): Promise<void> {
    const backoff = new Backoff(MOVE_RETRY_FIRST_MS, MOVE_RETRY_MAX_MS);
    while (!signal.aborted && keeper.lease !== null && !keeper.isNone) {
      const { lease } = keeper;
      const target = `${leaseKey(lease.subnets)} on ${this.#link.name}`;
      this.#wait(`moving to ${target}`);
      try {
        await this.#closePath();
        // Over another link the store may be reached only when packets flow there.
        this.#network = isConfigRead
          ? await this.#awaitNetwork(signal)
          : this.#rejudge(this.#network!.config);
        if (isConfigRead) this.#configWatch.settle();
        this.#remember();
        const link = this.#link;
        await this.#prepare(this.#network, signal);
        keeper.publish(this.#attributes(this.#network));
        await this.#openPath(lease);
        if (this.#outerLink!.hasMovedFrom(link)) continue;
        // No notification reported other changes of the interface while there was no path.
        return this.#outerLink!.check();
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof LoopHangs) throw error;
        this.#wait(`cannot move to ${target}: ${errorText(error)}`);
        this.#log.error`${this.#progress.waitingFor}`;
        await pause(backoff.next_ms(), signal);
      }
    }
  }

  /** Goes on over a link that is another, or has another address or MTU. */
  #followOuterLink({ publicAddresses }: OuterLink): void {
    try {
      keepVtepMacs(this.#options.stateDir, publicAddresses, this.#vtepMacs!);
    } catch (error) {
      this.#log.warning`${errorText(error)}`;
    }
    this.control.store.reconnect();
    // A move that is under way takes it up.
    if (this.#path !== null) void this.#move(this.#keeper!, this.#signal!, false);
  }

  async #followLeases(signal: AbortSignal): Promise<void> {
    for await (const changes of this.control.store.watch(signal)) {
      restSoon();
      this.#keeper?.noteStoreSign(changes);
      if (!this.#leases.apply(changes)) continue;
      this.#keeper?.observe(this.#leases.table);
      this.#memory?.peersChanged();
      this.#path?.update();
      this.#settling.count(changes.length);
    }
  }

  /** Names the peers to which no packets pass because their configuration differs; null: none. */
  #partedProblem(): string | null {
    const keeper = this.#keeper;
    const { outdated } = this.#configWatch;
    const sources = [this.#leases.table, keeper?.lease, this.#network, outdated, this.#path];
    return this.#parted.update(sources, () => {
      if (keeper === null || this.#network === null || this.#path === null) return null;
      const peers = this.#leases.peers(keeper);
      return { ...this.#network, peers, outdated, isOwn: (lease) => keeper.isOwn(lease) };
    });
  }

  /** Has repaired at once what others change, and follows the outer interface. */
  #followKernel(signal: AbortSignal): Promise<void>[] {
    const concerned = { path: () => this.#path ?? this.#barrier, outerLink: this.#outerLink! };
    return [
      followTables(concerned, signal),
      followFirewall(concerned, this.#kernel!, signal),
    ];
  }

  async #release(): Promise<void> {
    // What was refused at the start is no end of a node.
    if (!this.#options.releaseOnExit || !this.#signal?.aborted) return;
    this.#memory?.forget();
    if (this.#keeper?.isNone) return;
    const lease = this.#keeper?.lease ?? null;
    if (lease === null) {
      this.#log.warning`no lease was taken, so none is given back; an earlier run's stays`;
      return;
    }
    await this.#opened?.store.release(lease, AbortSignal.timeout(RELEASE_TIMEOUT_MS));
  }

  /** Closes everything, each part whatever became of the others. */
  async #end(): Promise<void> {
    this.#progress.enter("stopping", "stopping");
    this.#notify("STOPPING=1");
    this.#outerLink?.stop();
    this.#stateKeeper?.stop();
    const steps: [string, () => Promise<void> | void][] = [
      ["close the API", () => this.#listeners?.close()],
      // Else it would open its path after the last was closed. Only the signal ends every wait.
      ["end a move", () => this.#signal?.aborted ? this.#turn : undefined],
      ["give the lease back", () => this.#release()],
      ["close the data path", () => this.#closeForGood()],
      ["write the last lease and peers", () => this.#memory?.close()],
      ["close the store", () => this.#opened?.close()],
      ["let go of the kernel", () => this.#kernel!.close()],
    ];
    for (const [what, step] of steps) {
      try {
        await step();
      } catch (error) {
        this.#log.error`cannot ${what}: ${errorText(error)}`;
      }
    }
  }

  get #leaseOverlap(): string | null {
    const [network, lease] = [this.#network, this.#keeper?.lease ?? null];
    return network === null || lease === null ? null : leaseOverlap(network, lease);
  }

  get #networks(): IpPrefix[] {
    return this.#network?.config.ranges.map(({ network }) => network) ?? [];
  }

  get #parts(): NodeParts {
    return {
      started_ms: timeOfDay_ms(this.#started_ms),
      ...this.#progress.shown,
      link: this.#outerLink?.link ?? null,
      config: this.#network?.config ?? null,
      lease: this.#keeper?.lease ?? null,
      expiry_ms: this.#keeper?.expiry_ms ?? null,
      renewal_ms: this.#keeper?.renewal_ms ?? null,
      lostSince_ms: this.#keeper?.lostSince_ms ?? null,
      path: this.#path,
      linkProblem: this.#outerLink?.problem ?? this.#leaseOverlap,
      rivalProblem: this.#keeper?.rivalProblem ?? null,
      addressProblem: this.#keeper?.addressProblem ?? null,
      partedProblem: this.#partedProblem(),
      configProblem: this.#configWatch.problem,
      stateProblems: this.#stateKeeper?.problems ?? [],
      store: this.#opened?.store.state() ?? null,
      registry: this.#opened?.registry ?? null,
    };
  }

  get #notices(): string[] {
    const isServing = this.#path !== null && this.#keeper?.isConfirmed === false;
    return [
      ...isServing ? [startNotice(this.#keeper!, this.#leases)] : [],
      ...this.#memory?.problem ? [this.#memory.problem] : [],
      ...this.#keeper && this.#network
        ? this.#leases.reservationNotices(this.#keeper, this.#network.config)
        : [],
      ...this.#configWatch.notices,
      ...this.#opened?.notices() ?? [],
    ];
  }

  get #details() {
    return {
      hostProblems: [
        ...this.#keeper?.lease ? this.#leftSubnets.problems(this.#networks) : [],
        ...this.#barrier?.problems ?? [],
        ...this.#listeners?.problems ?? [],
      ],
      listeners: [
        ...this.#listeners?.status ?? [],
        ...this.#opened?.listeners() ?? [],
      ],
      notices: this.#notices,
      peers: this.#leases.peers(this.#keeper),
    };
  }
}
