/** Finds out which process holds a port or a socket name of this host, from what `/proc` shows. */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { readFileBounded } from "./files.ts";
import { type Family, IpAddress } from "./net/ip.ts";

/** A row has about 150 bytes. */
const TABLE_SIZE_MAX_BYTES = 8 * 1024 * 1024;
/** `net/tcp_states.h`, as `/proc/net/tcp` prints it. */
const TCP_LISTEN = "0A";

export interface PortHolder {
  /** Null where `/proc` does not show this process which one it is. */
  readonly pid: number | null;
  /** The name of its executable, at most 15 characters; null as `pid`. */
  readonly command: string | null;
  /** The user who made the socket. */
  readonly userId: number;
}

/** The address of a row: 32-bit words in the byte order of the processor, all little-endian. */
function rowAddress(hex: string): IpAddress {
  const bytes = Uint8Array.from(hex.match(/../g) ?? [], (digits) => parseInt(digits, 16));
  for (let at = 0; at < bytes.length; at += 4) bytes.subarray(at, at + 4).reverse();
  return IpAddress.fromBytes(bytes);
}

/** Whether sockets at both addresses get in each other's way, as far as their rows show it. */
function doClash(wanted: IpAddress, held: IpAddress): boolean {
  if (wanted.isUnspecified() || held.isUnspecified()) {
    // An IPv6 wildcard holds the port of IPv4 as well, unless the socket is for IPv6 only
    // (IPV6_V6ONLY).
    return wanted.family === held.family || held.family === 6 || wanted.family === 6;
  }
  return wanted.equals(held) || held.toString() === `::ffff:${wanted}`;
}

interface Row {
  readonly inode: string;
  readonly userId: number;
}

/** The sockets at this port (`Documentation/networking/proc_net_tcp.rst`; udp is alike). */
function rowsOf(protocol: "tcp" | "udp", family: Family, address: IpAddress, port: number): Row[] {
  const path = `/proc/thread-self/net/${protocol}${family === 6 ? "6" : ""}`;
  const portHex = port.toString(16).toUpperCase().padStart(4, "0");
  return readFileBounded(path, TABLE_SIZE_MAX_BYTES).split("\n").slice(1).flatMap((line) => {
    const [, local = "", , state, , , , userId, , inode = ""] = line.trim().split(/\s+/);
    const [addressHex = "", localPort] = local.split(":");
    if (localPort !== portHex || (protocol === "tcp" && state !== TCP_LISTEN)) return [];
    return doClash(address, rowAddress(addressHex)) ? [{ inode, userId: Number(userId) }] : [];
  });
}

function hasSocket(pid: string, inode: string): boolean {
  try {
    const directory = `/proc/${pid}/fd`;
    return readdirSync(directory).some((fd) => {
      try {
        return readlinkSync(`${directory}/${fd}`) === `socket:[${inode}]`;
      } catch {
        return false;
      }
    });
  } catch {
    // It has ended, or is another user's and this process may not look into it.
    return false;
  }
}

/**
 * The process that has a socket with this inode; null if `/proc` does not show this process one.
 */
function findSocketOwner(inode: string): number | null {
  const pids = readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name));
  const pid = pids.find((name) => hasSocket(name, inode));
  return pid === undefined ? null : Number(pid);
}

/** `__SO_ACCEPTCON` of linux/net.h, as `/proc/net/unix` prints it: the socket listens. */
const UNIX_LISTENS = "00010000";

/**
 * The process that listens at a name of unix(7)'s abstract name space, and its user; null if none
 * is found. It looks through every process of the host. Never throws.
 */
export function findNameHolder(name: string): { pid: number; uid: number } | null {
  try {
    const rows = readFileBounded("/proc/thread-self/net/unix", TABLE_SIZE_MAX_BYTES).split("\n");
    const row = rows.map((line) => line.trim().split(/\s+/))
      .find((fields) => fields[3] === UNIX_LISTENS && fields[7] === `@${name}`);
    const pid = row === undefined ? null : findSocketOwner(row[6]!);
    return pid === null ? null : { pid, uid: statSync(`/proc/${pid}`).uid };
  } catch {
    return null;
  }
}

/**
 * The process that holds a TCP port (listening) or a UDP port at this address, or at one that takes
 * it in; null where none is found. Looks through every process of the host, so ask it once when a
 * port turns out to be taken, not time and again. Never throws.
 */
export function findPortHolder(
  protocol: "tcp" | "udp",
  address: IpAddress,
  port: number,
): PortHolder | null {
  try {
    const row = [...rowsOf(protocol, 4, address, port), ...rowsOf(protocol, 6, address, port)][0];
    if (row === undefined) return null;
    const pid = findSocketOwner(row.inode);
    if (pid === null) return { pid: null, command: null, userId: row.userId };
    const command = readFileSync(`/proc/${pid}/comm`, "utf8").trimEnd();
    return { pid, command, userId: row.userId };
  } catch {
    return null;
  }
}

/** How long an answer is kept for callers that try a port again and again. */
const ANSWER_AGE_MAX_MS = 10_000;
let lastAnswer = { question: "", text: "", at_ms: 0 };

/** As `portHolderText`, but up to ten seconds old: for callers that try a port every second. */
export function recentPortHolderText(
  protocol: "tcp" | "udp",
  address: IpAddress,
  port: number,
): string {
  const question = `${protocol} ${address} ${port}`;
  const now_ms = performance.now();
  if (question !== lastAnswer.question || now_ms - lastAnswer.at_ms > ANSWER_AGE_MAX_MS) {
    lastAnswer = { question, text: portHolderText(protocol, address, port), at_ms: now_ms };
  }
  return lastAnswer.text;
}

/** The holder in words: ` by nc (process 1234, user 1000)`; empty where none is found. */
export function portHolderText(protocol: "tcp" | "udp", address: IpAddress, port: number): string {
  const holder = findPortHolder(protocol, address, port);
  if (holder === null) return "";
  const { pid, command, userId } = holder;
  if (pid === null) return ` by a process of user ${userId}`;
  return ` by ${command} (process ${pid}, user ${userId})`;
}
