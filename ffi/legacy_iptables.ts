/** Reads the table `filter` of the old iptables, which no netlink message tells of. */
import { readFileSync } from "node:fs";
import { SystemError } from "./errno.ts";
import { closeFd } from "./fd.ts";
import { check, libc } from "./libc.ts";
import { openRawSocket } from "./raw_socket.ts";
import { int32Option } from "./socket_address.ts";

/** `linux/netfilter_ipv4/ip_tables.h`, `linux/netfilter_ipv6/ip6_tables.h`: one number in both. */
const SO_GET_INFO = 64;
const SO_GET_ENTRIES = 65;
const LEVEL = { 4: 0, 6: 41 } as const;
const NAMES = { 4: "ip_tables_names", 6: "ip6_tables_names" } as const;
const TABLE = "filter";
const XT_TABLE_MAXNAMELEN = 32;

// struct ipt_getinfo: name, valid_hooks, hook_entry[5], underflow[5], num_entries, size
const INFO_SIZE = XT_TABLE_MAXNAMELEN + 13 * 4;
const INFO_SIZE_OFFSET = INFO_SIZE - 4;
/** struct ipt_get_entries: name, size, then the entries, aligned for their counters. */
const ENTRIES_OFFSET = 40;
/** Hosts with thousands of rules have some hundred bytes each. */
const ENTRIES_SIZE_MAX = 16 * 2 ** 20;
/** Somebody may replace the table between the two questions. */
const ATTEMPTS_MAX = 3;

export interface LegacyTable {
  /** `struct ipt_getinfo` or `struct ip6t_getinfo`, which are alike. */
  readonly info: Uint8Array;
  /** One `struct ipt_entry`, or `struct ip6t_entry`, after the other. */
  readonly entries: Uint8Array;
}

/** Asking for a table that is not there would make it. */
function hasTable(family: 4 | 6): boolean {
  try {
    // The thread's namespace, which in tests is another than the process's.
    const names = readFileSync(`/proc/thread-self/net/${NAMES[family]}`, "utf8");
    return names.split("\n").includes(TABLE);
  } catch {
    return false;
  }
}

function ask(fd: number, level: number, option: number, value: Uint8Array): void {
  value.set(new TextEncoder().encode(TABLE));
  check(libc.getsockopt(fd, level, option, value, int32Option(value.length)), "read iptables");
}

/**
 * The table `filter` of the namespace; null: there is none, or no old iptables at all. Throws
 * `SystemError`, `EPERM` without CAP_NET_ADMIN.
 */
export function readLegacyFilter(family: 4 | 6): LegacyTable | null {
  if (!hasTable(family)) return null;
  const fd = openRawSocket(family);
  try {
    for (let attempt = 1;; attempt++) {
      const info = new Uint8Array(INFO_SIZE);
      ask(fd, LEVEL[family], SO_GET_INFO, info);
      const size_bytes = new DataView(info.buffer).getUint32(INFO_SIZE_OFFSET, true);
      if (size_bytes > ENTRIES_SIZE_MAX) return null;
      const answer = new Uint8Array(ENTRIES_OFFSET + size_bytes);
      new DataView(answer.buffer).setUint32(XT_TABLE_MAXNAMELEN, size_bytes, true);
      try {
        ask(fd, LEVEL[family], SO_GET_ENTRIES, answer);
      } catch (error) {
        const isChanged = error instanceof SystemError && error.code === "EAGAIN";
        if (!isChanged || attempt === ATTEMPTS_MAX) throw error;
        continue;
      }
      return { info, entries: answer.subarray(ENTRIES_OFFSET) };
    }
  } finally {
    closeFd(fd);
  }
}
