/** `selvage clean`: removes what a Selvage or a flanneld that has ended left on this host. */
import { lstatSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { NetlinkNetfilterSocket, NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { claimNamespace, findHolder } from "../agent/namespace_claim.ts";
import { requireCapabilities } from "../agent/preflight.ts";
import { probeRunning } from "../check/ports.ts";
import { errorText, fileReason, SelvageError } from "../errors.ts";
import {
  flannelFirewallLeftovers,
  flannelLeftovers,
  type Leftover,
  ownFirewallLeftovers,
  ownLeftovers,
} from "../kernel/leftovers.ts";
import { readPreviousSubnets } from "../lease/subnet_file.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import { getGeneration } from "../netlink/nftables/nftables.ts";
import type { CleanOptions, CleanReport, CleanStep } from "./report.ts";

const FLANNELD = "flanneld";
/** What `writeFileAtomic` leaves when it is killed. */
const TEMPORARY = /^\.(.+)\.[0-9a-f]{12}$/;

interface Found {
  readonly leftovers: readonly Leftover[];
  readonly notes: readonly string[];
}

interface Connections {
  readonly route: NetlinkConnection;
  /** null: this kernel has no nftables, or this process may not ask for them. */
  readonly netfilter: NetlinkConnection | null;
  readonly notes: readonly string[];
}

/** Runs `work` with connections of its own. */
async function withConnections<T>(work: (connections: Connections) => Promise<T>): Promise<T> {
  const route = new NetlinkConnection(new NetlinkRouteSocket());
  let netfilter: NetlinkConnection | null = null;
  const notes: string[] = [];
  try {
    try {
      netfilter = new NetlinkConnection(new NetlinkNetfilterSocket());
      getGeneration(netfilter);
    } catch (error) {
      netfilter?.close();
      netfilter = null;
      notes.push(`Firewall rules were not looked at: ${errorText(error)}.`);
    }
    return await work({ route, netfilter, notes });
  } finally {
    netfilter?.close();
    route.close();
  }
}

/**
 * The flanneld of this network namespace, except for a selvage with that name; null: none was
 * found.
 */
function findFlanneld(): number | null {
  const own = readlinkSync("/proc/self/ns/net");
  const selvage = findHolder()?.pid ?? null;
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const found = pids.find((pid) => {
    try {
      if (readFileSync(`/proc/${pid}/comm`, "utf8").trim() !== FLANNELD) return false;
      return Number(pid) !== selvage && readlinkSync(`/proc/${pid}/ns/net`) === own;
    } catch {
      // It has just ended.
      return false;
    }
  });
  return found === undefined ? null : Number(found);
}

function file(path: string): Leftover {
  return { kind: "file", object: path, action: "remove", apply: () => rmSync(path) };
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Temporary files that killed writers left beside a file. */
function temporaryFiles(path: string): Leftover[] {
  try {
    const directory = dirname(path);
    return readdirSync(directory).filter((name) => TEMPORARY.exec(name)?.[1] === basename(path))
      .map((name) => file(join(directory, name)));
  } catch {
    // There is no directory, so nothing is in it.
    return [];
  }
}

async function findOwn(options: CleanOptions, { route, netfilter }: Connections): Promise<Found> {
  const { apiSocket, subnetFile, stateDir, removesSubnetFile } = options;
  const isAnswered = exists(apiSocket) && await probeRunning(apiSocket) !== false;
  const hasSubnetFile = exists(subnetFile);
  const leftovers = [
    ...ownLeftovers(route),
    ...(netfilter === null ? [] : ownFirewallLeftovers(netfilter)),
    ...(exists(apiSocket) && !isAnswered ? [file(apiSocket)] : []),
    ...temporaryFiles(subnetFile),
    ...(removesSubnetFile && hasSubnetFile ? [file(subnetFile)] : []),
  ];
  const kept = [
    ...(exists(stateDir) ? [`${stateDir} (leases, tokens and keys; remove it by hand)`] : []),
    ...(hasSubnetFile && !removesSubnetFile ? [`${subnetFile} (--remove-subnet-file)`] : []),
    "the values of sysctls",
  ];
  const inUse = `${apiSocket} is kept: a selvage of another network namespace answers there.`;
  return { leftovers, notes: [`Kept: ${kept.join(", ")}.`, ...(isAnswered ? [inUse] : [])] };
}

const LEGACY_TABLES = ["ip_tables_names", "ip6_tables_names"] as const;

/** How to remove what is in tables of the old iptables, which have no netlink. */
function legacyNotes(): string[] {
  return LEGACY_TABLES.flatMap((name) => {
    let tables = "";
    try {
      tables = readFileSync(`/proc/net/${name}`, "utf8");
    } catch {
      // The kernel has none.
    }
    if (!/^(filter|nat)$/m.test(tables)) return [];
    const command = name === "ip_tables_names" ? "iptables-legacy" : "ip6tables-legacy";
    const chain = (table: string, from: string, comment: string, chainName: string) =>
      `${command} -t ${table} -D ${from} -m comment --comment "flanneld ${comment}" ` +
      `-j ${chainName}; ${command} -t ${table} -F ${chainName}; ` +
      `${command} -t ${table} -X ${chainName}`;
    return [
      `Tables of ${command} are in use, and selvage cannot read them. If flanneld made rules ` +
      `there, remove them with: ${chain("filter", "FORWARD", "forward", "FLANNEL-FWD")}; ` +
      chain("nat", "POSTROUTING", "masq", "FLANNEL-POSTRTG"),
    ];
  });
}

function findFlannels(options: CleanOptions, { route, netfilter }: Connections): Found {
  const { subnetFile, removesSubnetFile } = options;
  const isSelvageHere = findHolder() !== null;
  if (removesSubnetFile && isSelvageHere) {
    throw new SelvageError("conflict", `${subnetFile} is in use by the running selvage`, {
      hint: "Leave --remove-subnet-file out.",
    });
  }
  const { subnets, networks: named } = readPreviousSubnets(subnetFile);
  const networks = options.networks.length > 0 ? options.networks : named;
  const unknown = `Routes to peers were not looked for: ${subnetFile} names no network. ` +
    "Give it with --network.";
  return {
    leftovers: [
      ...flannelLeftovers(route, { networks, subnets }, isSelvageHere),
      ...(netfilter === null ? [] : flannelFirewallLeftovers(netfilter)),
      ...(removesSubnetFile && exists(subnetFile) ? [file(subnetFile)] : []),
    ],
    notes: [
      ...(networks.length === 0 ? [unknown] : []),
      ...legacyNotes(),
      "Kept: bridges and interfaces of containers, flanneld's own files, the values of sysctls.",
    ],
  };
}

function applyOne({ kind, object, action, apply }: Leftover): CleanStep {
  try {
    apply();
    return { kind, object, action, result: "done", error: null };
  } catch (error) {
    return { kind, object, action, result: "failed", error: fileReason(error) };
  }
}

/** Finds, removes, and looks again: a thing that is back was made by a running program. */
async function cleanUp(options: CleanOptions, connections: Connections): Promise<CleanReport> {
  const find = async () =>
    options.whose === "selvage"
      ? await findOwn(options, connections)
      : findFlannels(options, connections);
  const { leftovers, notes: found } = await find();
  const notes = [...connections.notes, ...found];
  if (options.isDryRun) {
    const steps = leftovers.map(({ kind, object, action }): CleanStep => {
      return { kind, object, action, result: "planned", error: null };
    });
    return { isDryRun: true, steps, notes };
  }
  const steps = leftovers.map(applyOne);
  const left = new Set((await find()).leftovers.map(({ kind, object }) => `${kind} ${object}`));
  const checked = steps.map((step): CleanStep => {
    if (step.result === "failed" || !left.has(`${step.kind} ${step.object}`)) return step;
    return { ...step, result: "failed", error: "it is back: another program made it again" };
  });
  return { isDryRun: false, steps: checked, notes };
}

/**
 * Removes the leftovers, or only names them. Rejects with `conflict` while the program that made
 * them runs, and with `permission`.
 */
export async function runClean(options: CleanOptions): Promise<CleanReport> {
  requireCapabilities("selvage clean", "CAP_NET_ADMIN");
  if (options.whose === "selvage") {
    const claim = claimNamespace();
    try {
      return await withConnections((connections) => cleanUp(options, connections));
    } finally {
      claim?.close();
    }
  }
  const pid = findFlanneld();
  if (pid !== null) {
    throw new SelvageError("conflict", `flanneld runs here (pid ${pid})`, {
      hint: "End it first: systemctl stop flanneld, or delete its DaemonSet.",
    });
  }
  return await withConnections((connections) => cleanUp(options, connections));
}
