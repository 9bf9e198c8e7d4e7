/** The status snapshot as text for people. */
import {
  type DataPlaneStatus,
  type DeviceStatus,
  HARMLESS_DROPS,
  type ListenerStatus,
  type PeerStatus,
  type Status,
  type TunnelStatus,
} from "../agent/status.ts";
import { printable } from "../printable.ts";
import { type Cell, renderFittingTable, renderPairs, renderTable, type Table } from "./table.ts";
import { formatAgo, formatBytes, formatCount, formatDuration } from "./units.ts";

export interface StatusTextOptions {
  /** Also the drop reasons that have counted nothing, and those that are harmless. */
  readonly verbose: boolean;
}

const PHASES: Readonly<Record<Status["phase"], string>> = {
  starting: "starting",
  waiting_for_store: "waiting for the store",
  waiting_for_config: "waiting for the network configuration",
  waiting_for_lease: "waiting for a lease",
  ready: "ready",
  stopping: "stopping",
};

function list(texts: readonly string[]): string {
  return texts.length === 0 ? "none" : texts.join(", ");
}

function interfaceParts(link: NonNullable<Status["interface"]>): string[] {
  const told = link.publicAddresses.filter((one) => !link.addresses.includes(one));
  const addresses = link.addresses.length === 0 ? ["none"] : link.addresses;
  const others = told.map((one, i) => i === 0 ? `public ${one}` : one);
  return [link.name, ...addresses, ...others, `MTU ${link.mtu_bytes}`];
}

function leaseParts(lease: NonNullable<Status["lease"]>, now_ms: number): string[] {
  const subnets = lease.subnets.length === 0 ? ["none"] : lease.subnets;
  if (lease.lostSince_ms !== null) {
    return [...subnets, `LOST ${formatAgo(lease.lostSince_ms, now_ms)}`];
  }
  if (lease.expiry_ms === null) return [...subnets, "reserved", "never ends"];
  const left_ms = lease.expiry_ms - now_ms;
  if (left_ms <= 0) return [...subnets, `ended ${formatAgo(lease.expiry_ms, now_ms)}`];
  const renewal = lease.renewal_ms === null || lease.renewal_ms <= now_ms
    ? []
    : [`renewed in ${formatDuration(lease.renewal_ms - now_ms)}`];
  return [...subnets, `${formatDuration(left_ms)} left`, ...renewal];
}

function backendText(backend: NonNullable<Status["backend"]>): string {
  const { type, generation, isDirectRouting, mtu_bytes } = backend;
  return [
    type,
    ...(generation === null ? [] : [`generation ${generation}`]),
    ...(isDirectRouting ? ["DirectRouting"] : []),
    `MTU ${mtu_bytes}`,
  ].join(", ");
}

function deviceParts({ name, kind, vni, vtepMac, port, mtu_bytes }: DeviceStatus): string[] {
  const parts = vni === null ? [kind] : [`${kind} ${vni}`, `port ${port}`, `VTEP ${vtepMac}`];
  return [name, ...parts, `MTU ${mtu_bytes}`];
}

function tunnelParts(tunnel: TunnelStatus): string[] {
  const { family, device, port, mtu_bytes, vni, vtepMac } = tunnel;
  const vxlan = vni === null ? [] : [`VNI ${vni}`, `VTEP ${vtepMac}`];
  return [device, `IPv${family}`, `MTU ${mtu_bytes}`, `port ${port}`, ...vxlan];
}

function storeText(store: NonNullable<Status["store"]>, now_ms: number): string {
  const state = store.connected ? "connected" : "NOT connected";
  const { unreadableCount } = store;
  const unreadable = unreadableCount === 0
    ? ""
    : `, ${formatCount(unreadableCount, "unreadable entry", "unreadable entries")} left out`;
  const since = formatDuration(now_ms - store.since_ms);
  const text = `${store.kind}, ${store.location}, ${state} for ${since}${unreadable}`;
  if (store.lastError === null) return text;
  const failing = store.connected && store.errorSince_ms !== null
    ? `; for ${formatDuration(now_ms - store.errorSince_ms)}`
    : "";
  return `${text}${failing}: ${store.lastError}`;
}

function traffic(packets: number, bytes: number): string {
  return `${formatCount(packets, "packet")} (${formatBytes(bytes)})`;
}

function waitingText({ waitingFor, waitingSince_ms }: Status, now_ms: number): string | null {
  if (waitingFor === null || waitingSince_ms === null) return waitingFor;
  return `for ${formatDuration(now_ms - waitingSince_ms)}: ${waitingFor}`;
}

function dataPlaneParts(plane: DataPlaneStatus): string[] {
  const { restartCount } = plane;
  return [
    plane.running ? "running" : "NOT running",
    ...(restartCount === 0 ? [] : [`restarted ${formatCount(restartCount, "time")}`]),
    `sent ${traffic(plane.sentPackets, plane.sentBytes)}`,
    `received ${traffic(plane.receivedPackets, plane.receivedBytes)}`,
    `${plane.peerCount} of ${plane.peerCountMax} peers`,
  ];
}

function workersText({ queueCount }: DataPlaneStatus): string {
  return queueCount === 1 ? "one pair a tunnel" : `${queueCount} pairs a tunnel`;
}

/** The checks that are switched off; null: none. */
function acceptedText(plane: DataPlaneStatus): string | null {
  const accepted = [
    ...(plane.trustsUnderlay ? ["datagrams from any outer address (--trust-underlay)"] : []),
    ...(plane.allowsOutsideSources
      ? ["packets from outside the network (--allow-outside-sources)"]
      : []),
  ];
  return accepted.length === 0 ? null : accepted.join(", ");
}

/** How many requests and connections a listener refused; null: none. */
function refusedText({ name, shedCount, refusedCount, unauthorizedCount }: ListenerStatus) {
  const parts = [
    ...(unauthorizedCount === 0
      ? []
      : [`${formatCount(unauthorizedCount, "request")} without a valid token`]),
    ...(shedCount + refusedCount === 0
      ? []
      : [`${formatCount(shedCount + refusedCount, "connection")} for lack of room`]),
  ];
  return parts.length === 0 ? null : `${name}: ${parts.join(", ")}`;
}

function phaseText({ phase, ready, problems }: Status): string {
  if (phase !== "ready") return PHASES[phase];
  if (!ready) return "started, but NOT ready: see below";
  return problems.length > 0 ? "ready, with problems: see below" : "ready";
}

function header(status: Status, now_ms: number): string {
  const { interface: link, lease, backend, store, dataPlane, guard, registry } = status;
  const up = formatDuration(status.uptime_ms);
  return renderPairs([
    ["Selvage", `${status.version}, pid ${status.pid}, up ${up}`],
    ["Phase", phaseText(status)],
    ["Waiting", waitingText(status, now_ms)],
    ["Interface", link === null ? null : interfaceParts(link)],
    ["Network", status.network.length === 0 ? null : status.network],
    ["Lease", lease === null ? null : leaseParts(lease, now_ms)],
    ["Backend", backend === null ? null : backendText(backend)],
    ...(backend?.tunnels ?? []).map((tunnel) => ["Tunnel", tunnelParts(tunnel)] as const),
    ...(backend?.devices ?? []).map((device) => ["Device", deviceParts(device)] as const),
    ["Store", store === null ? null : storeText(store, now_ms)],
    ["Registry", registry === null ? null : `${registry.listen}, ${registry.fingerprint}`],
    ...status.listeners.map((listener) => ["Refused", refusedText(listener)] as const),
    ["Data plane", dataPlane === null ? null : dataPlaneParts(dataPlane)],
    ["Offloads", dataPlane === null ? null : list(dataPlane.offloads)],
    ["Accepts", dataPlane === null ? null : acceptedText(dataPlane)],
    ["Workers", dataPlane === null ? null : workersText(dataPlane)],
    ["Guard", guard === null ? null : guardText(guard)],
  ]);
}

/** What this host does with a peer; `skipped` are the keys of those that it does not serve. */
function stateText({ key, awaitsHost }: PeerStatus, skipped: ReadonlySet<string>): string {
  if (!skipped.has(key)) return "served";
  return awaitsHost ? "not come yet" : "SKIPPED";
}

/** The peers. Packets are counted by peer only in user space. */
function peerTable({ peers, skippedPeers, dataPlane }: Status, now_ms: number): string {
  if (peers.length === 0) return "\nNo peers yet.\n";
  const isCounted = dataPlane !== null;
  const skipped = new Set(skippedPeers.map(({ key }) => key));
  const hasSkipped = peers.some(({ key }) => skipped.has(key));
  const hasSmallPath = peers.some((peer) => peer.pathMtu_bytes !== null);
  const isRight = { align: "right" } as const;
  const addressColumns = [
    { title: "SUBNET" },
    { title: "PUBLIC IP" },
    ...(hasSkipped ? [{ title: "STATE" }] : []),
  ];
  const addressCells = (peer: PeerStatus): Cell[] => [
    peer.subnets,
    peer.publicAddresses,
    ...(hasSkipped ? [stateText(peer, skipped)] : []),
  ];
  const traffic = [
    { title: "SENT", text: ({ sentBytes }: PeerStatus) => formatBytes(sentBytes) },
    { title: "RECEIVED", text: ({ receivedBytes }: PeerStatus) => formatBytes(receivedBytes) },
  ];
  const path = [
    ...(isCounted
      ? [{ title: "LAST HEARD", text: (peer: PeerStatus) => formatAgo(peer.lastHeard_ms, now_ms) }]
      : []),
    ...(hasSmallPath
      ? [{ title: "PATH MTU", text: (peer: PeerStatus) => String(peer.pathMtu_bytes ?? "") }]
      : []),
  ];
  /** Each group is a column whose cells have a line for each member. */
  const tableOf = (groups: readonly (typeof traffic)[]): Table => ({
    columns: [
      ...addressColumns,
      ...groups.map((group) => ({ title: group.map(({ title }) => title), ...isRight })),
    ],
    rows: peers.map((peer) => [
      ...addressCells(peer),
      ...groups.map((group) => group.map(({ text }) => text(peer))),
    ]),
  });
  const groups = [isCounted ? traffic : [], path].filter((group) => group.length > 0);
  const columns = groups.flat().map((one) => [one]);
  return `\n${renderFittingTable(tableOf(columns), tableOf(groups))}`;
}

function guardText({ state }: NonNullable<Status["guard"]>): string {
  switch (state) {
    case "on":
      return "on";
    case "off":
      return "OFF (--guard=false): local users and containers can send into the tunnel";
    case "missing":
      return "MISSING: see below";
  }
}

/** What the packet loops and the guard have dropped. */
function dropTable({ dataPlane, guard }: Status, verbose: boolean): string {
  const drops = Object.entries({ ...dataPlane?.drops, ...guard?.drops })
    .filter(([reason, count]) => verbose || (count > 0 && !HARMLESS_DROPS.has(reason)));
  if (drops.length === 0) return "";
  const columns = [{ title: "DROPPED" }, { title: "PACKETS", align: "right" }] as const;
  return `\n${
    renderTable(
      columns,
      drops.map(([reason, count]) => [
        HARMLESS_DROPS.has(reason) ? `${reason} (harmless)` : reason,
        String(count),
      ]),
    )
  }`;
}

/** Names the first few entries of the store that cannot be read, and why. */
function unreadableNotes(store: Status["store"]): string[] {
  // An older daemon does not name them.
  const shown = store?.unreadable ?? [];
  const lines = shown.map(({ key, reason }) => `Unreadable ${key}: ${reason}`);
  const restCount = store === null ? 0 : store.unreadableCount - shown.length;
  const isMore = shown.length > 0 && restCount > 0;
  if (isMore) lines.push(`Unreadable: ${restCount} more, which the log names`);
  return lines.map((line) => `${printable(line)}\n`);
}

/** The whole status, each line ended: the node, its peers, what it dropped. */
export function statusText(status: Status, options: StatusTextOptions): string {
  const notes = [
    ...status.problems.map((problem) => `Problem: ${printable(problem)}\n`),
    ...status.notices.map((notice) => `Note: ${printable(notice)}\n`),
    ...status.skippedPeers.map(({ key, reason }) =>
      `Skipped ${printable(key)}: ${printable(reason)}\n`
    ),
    ...unreadableNotes(status.store),
  ];
  return header(status, status.now_ms) +
    peerTable(status, status.now_ms) +
    (notes.length === 0 ? "" : `\n${notes.join("")}`) +
    dropTable(status, options.verbose);
}
