/** Hands the kernel's notifications to whom they concern. */
import { NETLINK_NETFILTER, NETLINK_ROUTE } from "../../ffi/netlink_listener.ts";
import type { Firewall } from "../kernel/firewall.ts";
import type { ForwardAccepts } from "../kernel/forward_accept.ts";
import { FIREWALL_TABLE, GUARD_TABLE } from "../kernel/firewall_state.ts";
import { type Interest, judge, type Relevance } from "../kernel/relevance.ts";
import { NetlinkDecodeError } from "../netlink/error.ts";
import type { NetlinkMessage } from "../netlink/message.ts";
import type { Miss } from "../netlink/neighbour.ts";
import { NFNLGRP_NFTABLES, notifiedTable } from "../netlink/nftables/notification.ts";
import { ROUTE_GROUPS } from "../netlink/notification.ts";
import type { DataPath } from "./data_path.ts";
import { followKernel } from "./kernel_watch.ts";

/** Whom they may concern. */
export interface Concerned {
  /** null: there is none just now, as in the middle of a move. */
  readonly path: () => Pick<DataPath, "interest" | "answer" | "check"> | null;
  readonly outerLink: { check(): void };
}

/** What cannot be read may mean anything. */
function judgeAny(message: NetlinkMessage, interest: Interest): readonly Relevance[] {
  try {
    return judge(message, interest);
  } catch (error) {
    if (error instanceof NetlinkDecodeError) return ["tables", "outer_link"];
    throw error;
  }
}

/** Takes notifications of NETLINK_ROUTE, borrowed. */
export function takeNotifications(
  messages: readonly NetlinkMessage[],
  { path: pathOf, outerLink }: Concerned,
): void {
  const path = pathOf();
  // The interface that a move is to may change once more.
  if (path === null) return outerLink.check();
  const { interest } = path;
  const all = messages.flatMap((message) => judgeAny(message, interest));
  const misses = all.filter((one): one is Miss => typeof one !== "string");
  if (misses.length > 0) path.answer(misses);
  if (all.includes("tables")) path.check();
  if (all.includes("outer_link")) outerLink.check();
}

/** Links, addresses, routes, neighbours, until the signal is aborted. */
export function followTables(concerned: Concerned, signal: AbortSignal): Promise<void> {
  return followKernel({
    protocol: NETLINK_ROUTE,
    groups: ROUTE_GROUPS,
    take: (messages) => {
      if (!signal.aborted) takeNotifications(messages, concerned);
    },
    onGap: () => {
      concerned.path()?.check();
      concerned.outerLink.check();
    },
  }, signal);
}

/** Whether another than the socket with this number changed a firewall table of ours. */
export function isFirewallNews(message: NetlinkMessage, ownPortId: number): boolean {
  if (message.portId !== 0 && message.portId === ownPortId) return false;
  const name = notifiedTable(message)?.name;
  return name === FIREWALL_TABLE || name === GUARD_TABLE;
}

/** Our firewall tables and the forward chains of others, until the signal is aborted. */
export function followFirewall(
  { path }: Concerned,
  { firewall, forwardAccepts }: {
    readonly firewall: Pick<Firewall, "portId">;
    readonly forwardAccepts: Pick<ForwardAccepts, "isNews">;
  },
  signal: AbortSignal,
): Promise<void> {
  return followKernel({
    protocol: NETLINK_NETFILTER,
    groups: [NFNLGRP_NFTABLES],
    take: (messages) => {
      const isNews = (one: NetlinkMessage) =>
        isFirewallNews(one, firewall.portId) || forwardAccepts.isNews(one);
      if (messages.some(isNews)) path()?.check();
    },
    onGap: () => path()?.check(),
  }, signal);
}
