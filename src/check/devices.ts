/**
 * Which devices the kernel makes. Those are made in a network namespace of our own, where nobody
 * sees them, and which is gone afterwards with all that is in it.
 */
import { existsSync } from "node:fs";
import { closeFd } from "../../ffi/fd.ts";
import { NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { closeNetns, createNetns, withNetns } from "../../ffi/netns.ts";
import { addTunQueue, openTun, readTunFeatures, type TunOffload } from "../../ffi/tun.ts";
import { enableUdpOffloads, openUdpSocket } from "../../ffi/udp_socket.ts";
import { errorText } from "../errors.ts";
import { probeDevice } from "../kernel/probe.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import type { Trial, TunFacts } from "./facts.ts";
import { attempt, fromError, unseen, valueOr, WORKS } from "./trial.ts";

const PROBE_NAME = "selvage-check";
const TUN_OFFLOADS: readonly TunOffload[] = ["csum", "tso", "uso"];
const LOOPBACK = new Uint8Array([127, 0, 0, 1]);
const NOT_ALLOWED = ["EPERM", "EACCES"];

export interface DeviceFacts {
  readonly tun: TunFacts;
  readonly vxlan: Trial;
  readonly ipip: Trial;
}

interface TunDevice {
  readonly trial: Trial;
  readonly offloads: readonly string[] | null;
  readonly isMultiQueue: boolean | null;
}

function makeTun(): TunDevice {
  const fds: number[] = [];
  try {
    const { fd, offloads } = openTun(PROBE_NAME, TUN_OFFLOADS, true);
    fds.push(fd);
    const queue = attempt(() => void fds.push(addTunQueue(PROBE_NAME, offloads)));
    return { trial: WORKS, offloads, isMultiQueue: queue.state === "works" };
  } catch (error) {
    return { trial: fromError(error, NOT_ALLOWED), offloads: null, isMultiQueue: null };
  } finally {
    fds.forEach(closeFd);
  }
}

function makeAll(): { tun: TunDevice; vxlan: Trial; ipip: Trial } {
  const connection = new NetlinkConnection(new NetlinkRouteSocket());
  try {
    return {
      tun: makeTun(),
      vxlan: attempt(() => probeDevice(connection, "vxlan"), NOT_ALLOWED),
      ipip: attempt(() => probeDevice(connection, "ipip"), NOT_ALLOWED),
    };
  } finally {
    connection.close();
  }
}

/** Where nothing can be made: a module that is loaded shows itself all the same. */
function asLoaded(kind: "vxlan" | "ipip", otherwise: Trial): Trial {
  return existsSync(`/sys/module/${kind}`)
    ? { state: "works", seen: "its module is loaded" }
    : otherwise;
}

/** What can be seen in a namespace of our own, or else without one. */
function tryDevices(): { tun: TunDevice; vxlan: Trial; ipip: Trial } {
  try {
    const scratch = createNetns();
    try {
      return withNetns(scratch, makeAll);
    } finally {
      closeNetns(scratch);
    }
  } catch (error) {
    const trial = NOT_ALLOWED.includes((error as { code?: string }).code ?? "")
      ? unseen("looking needs CAP_SYS_ADMIN")
      : unseen(errorText(error));
    const isMultiQueue = valueOr(() => readTunFeatures().isMultiQueue, null);
    return {
      tun: { trial, offloads: null, isMultiQueue },
      vxlan: asLoaded("vxlan", trial),
      ipip: asLoaded("ipip", trial),
    };
  }
}

export function probeDevices(): DeviceFacts {
  const file = attempt(() => void readTunFeatures());
  const { tun: { trial: device, offloads, isMultiQueue }, vxlan, ipip } = tryDevices();
  return { tun: { file, device, offloads, isMultiQueue }, vxlan, ipip };
}

/** What UDP sockets can do; null if none can be opened. */
export function probeUdpOffloads(): readonly string[] | null {
  return valueOr(() => {
    const fd = openUdpSocket(LOOPBACK, 0);
    try {
      return enableUdpOffloads(fd, ["udp-segment", "udp-gro"]);
    } finally {
      closeFd(fd);
    }
  }, null);
}
