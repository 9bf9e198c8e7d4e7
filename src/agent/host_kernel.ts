/** The agent's hold on the kernel: its netlink sockets, and who reads and writes by them. */
import { readLegacyFilter } from "../../ffi/legacy_iptables.ts";
import { NetlinkNetfilterSocket, NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import type { HostFeatures } from "../backend/select.ts";
import { errorText } from "../errors.ts";
import { Firewall } from "../kernel/firewall.ts";
import { ForwardAccepts, NO_FORWARDING } from "../kernel/forward_accept.ts";
import { ownLeftovers } from "../kernel/leftovers.ts";
import { hasKernelVxlan } from "../kernel/probe.ts";
import { Reconciler } from "../kernel/reconciler.ts";
import { listSurroundings, type VitalAddress } from "../kernel/surroundings.ts";
import { logger } from "../log.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import { claimNamespace } from "./namespace_claim.ts";

/** Making one throws `conflict` where another selvage runs: see `claimNamespace`. */
export class HostKernel {
  readonly #claim = claimNamespace();
  readonly #socket = new NetlinkRouteSocket();
  readonly connection = new NetlinkConnection(this.#socket);
  readonly reconciler = new Reconciler(this.connection);
  readonly firewall = new Firewall(() => new NetlinkConnection(new NetlinkNetfilterSocket()));
  readonly forwardAccepts = new ForwardAccepts(
    () => new NetlinkConnection(new NetlinkNetfilterSocket()),
    readLegacyFilter,
  );
  #hasVxlan: boolean | null = null;
  readonly features: HostFeatures;

  /** `vital`: what the host must go on reaching; null: nothing is held against a network. */
  constructor(vital: readonly VitalAddress[] | null, allowsCommands: boolean) {
    this.features = {
      hasKernelVxlan: () => this.#hasVxlan ??= hasKernelVxlan(this.connection),
      surroundings: () => vital === null ? [] : listSurroundings(this.connection, vital),
      allowsCommands,
    };
  }

  /** Whether devices or routes of ours are in the kernel. False also if the kernel does not say. */
  hasLeftovers(): boolean {
    try {
      return ownLeftovers(this.connection).length > 0;
    } catch (error) {
      logger("agent").debug`cannot look for entries of an earlier run: ${errorText(error)}`;
      return false;
    }
  }

  /** Removes all of ours, also an earlier run's; returns what cannot be, a sentence each. */
  clear(): string[] {
    return [
      ...this.reconciler.clear().problems,
      ...this.firewall.reconcile([]).problems,
      ...this.forwardAccepts.reconcile(NO_FORWARDING).problems,
    ];
  }

  close(): void {
    try {
      this.firewall.close();
      this.forwardAccepts.close();
    } finally {
      this.#socket.close();
      this.#claim?.close();
    }
  }
}
