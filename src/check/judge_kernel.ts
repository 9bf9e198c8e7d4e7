/** Judges what the kernel offers. */
import type { Capability } from "../agent/preflight.ts";
import type { HostFacts, Trial } from "./facts.ts";
import { type BackendName, BACKENDS, type CheckRow } from "./report.ts";

/** A row, and which backends it stops or leaves open. */
export interface Judged extends CheckRow {
  readonly blocks?: readonly BackendName[];
  readonly leavesOpen?: readonly BackendName[];
}

/** Those that forward in user space. */
export const USERSPACE: readonly BackendName[] = ["udp", "vxlan (userspace)"];

const AS_ROOT = "Run it as root, or give it the capability.";
/** netlink's strict checks (`NETLINK_GET_STRICT_CHK`). */
const KERNEL_MIN = [4, 20] as const;
/** From here on the neighbour table's bound passes over entries that are permanent. */
const UNBOUNDED_NEIGHBOURS = [5, 0] as const;

function isAtLeast(release: string, [major, minor]: readonly [number, number]): boolean {
  const [, a, b] = /^(\d+)\.(\d+)/.exec(release) ?? [];
  return Number(a ?? 0) > major || (Number(a ?? 0) === major && Number(b ?? 0) >= minor);
}

function judgeVersion({ kernelRelease }: HostFacts): Judged {
  const seen = `Linux ${kernelRelease}`;
  const name = "kernel";
  if (isAtLeast(kernelRelease, KERNEL_MIN)) return { name, result: "ok", seen, advice: "" };
  const advice = `Use Linux ${KERNEL_MIN.join(".")} or later.`;
  return { name, result: "missing", seen, advice, blocks: BACKENDS };
}

function judgeCapability({ capabilities }: HostFacts, name: Capability): Judged {
  if (capabilities.includes(name)) return { name, result: "ok", seen: "held", advice: "" };
  return { name, result: "missing", seen: "not held", advice: AS_ROOT, blocks: BACKENDS };
}

function judgeTunFile({ tun }: HostFacts): Judged {
  const name = "/dev/net/tun";
  if (tun.file.state === "works") return { name, result: "ok", seen: "opens", advice: "" };
  const isDenied = /\b(EACCES|EPERM)\b/.test(tun.file.why);
  const advice = isDenied
    ? "Run it as root, or allow this user and this container to open the device."
    : "Load the kernel module (modprobe tun), or give the container this device.";
  return { name, result: "missing", seen: tun.file.why, advice, blocks: USERSPACE };
}

function judgeTunDevice({ tun }: HostFacts): Judged {
  const { device, offloads, isMultiQueue } = tun;
  const name = "TUN device";
  if (device.state === "refused") {
    const advice = "Find out why the kernel makes no TUN device (dmesg).";
    return { name, result: "missing", seen: device.why, advice, blocks: USERSPACE };
  }
  const queues = isMultiQueue === null ? [] : [isMultiQueue ? "multi-queue" : "one queue"];
  if (offloads === null) {
    const why = device.state === "unseen" ? device.why : "not known";
    const seen = [...queues, `offloads not looked at: ${why}`].join("; ");
    return { name, result: "warning", seen, advice: "" };
  }
  const seen = [`offloads ${offloads.join(", ") || "none"}`, ...queues].join("; ");
  if (offloads.length === 3 && isMultiQueue) return { name, result: "ok", seen, advice: "" };
  return {
    name,
    result: "warning",
    seen,
    advice: "Selvage works, but more slowly. Linux 6.2 has all of csum, tso, uso and multi-queue.",
  };
}

function judgeUdpOffloads({ udpOffloads }: HostFacts): Judged {
  const name = "UDP offloads";
  if (udpOffloads === null) {
    const advice = "Find out why this process cannot open a UDP socket on the loopback address.";
    return { name, result: "warning", seen: "not looked at: no UDP socket opens", advice };
  }
  const seen = udpOffloads.join(", ") || "none";
  if (udpOffloads.length === 2) return { name, result: "ok", seen, advice: "" };
  return {
    name,
    result: "warning",
    seen,
    advice: "Selvage works, but more slowly. Linux 5.0 has both.",
  };
}

/** A device that the kernel makes, and the one backend that needs it. */
function judgeDevice(kind: string, trial: Trial, backend: BackendName): Judged {
  const name = `${kind} device`;
  if (trial.state === "works") {
    return { name, result: "ok", seen: trial.seen ?? "can be made", advice: "" };
  }
  if (trial.state === "unseen") {
    const seen = `not looked at: ${trial.why}`;
    const advice = `Run selvage check as root to find out; only ${backend} needs this.`;
    return { name, result: "warning", seen, advice, leavesOpen: [backend] };
  }
  const advice = `Load the kernel module (modprobe ${kind}); only ${backend} needs it.`;
  return { name, result: "missing", seen: trial.why, advice, blocks: [backend] };
}

function judgeNftables({ nftables }: HostFacts): Judged {
  const name = "nftables";
  if (nftables.state === "works") return { name, result: "ok", seen: "answers", advice: "" };
  if (nftables.state === "unseen") {
    const seen = `not looked at: ${nftables.why}`;
    return { name, result: "warning", seen, advice: "Run selvage check as root to find out." };
  }
  const advice = "Load the kernel module (modprobe nf_tables). --ip-masq and --guard need it; " +
    "without the guard local users, containers and strangers can send packets into the overlay.";
  return { name, result: "missing", seen: nftables.why, advice };
}

/** For information: nothing needs it. */
function judgeIoUring({ ioUring }: HostFacts): Judged {
  const seen = ioUring.state === "works" ? "answers" : `not available: ${ioUring.why}`;
  return { name: "io_uring", result: "ok", seen: `${seen}; nothing needs it`, advice: "" };
}

/** Only information, except on old kernels: there each peer of the kernel's VXLAN uses an entry. */
function judgeNeighbours({ gcThresh3, kernelRelease }: HostFacts): Judged {
  const name = "neighbour table";
  if (gcThresh3 === null) {
    return { name, result: "ok", seen: "its limit cannot be read", advice: "" };
  }
  const seen = `gc_thresh3 ${gcThresh3}`;
  if (isAtLeast(kernelRelease, UNBOUNDED_NEIGHBOURS)) {
    return { name, result: "ok", seen: `${seen}; peers do not use its entries`, advice: "" };
  }
  const advice =
    "For more peers in the kernel's VXLAN: sysctl -w net.ipv4.neigh.default.gc_thresh3=N";
  return { name, result: "warning", seen: `${seen}; each peer of vxlan uses one entry`, advice };
}

export function judgeKernel(facts: HostFacts): Judged[] {
  return [
    judgeVersion(facts),
    judgeCapability(facts, "CAP_NET_ADMIN"),
    judgeCapability(facts, "CAP_NET_RAW"),
    judgeTunFile(facts),
    // Without the file there is nothing more to be said of it.
    ...(facts.tun.file.state === "works" ? [judgeTunDevice(facts)] : []),
    judgeUdpOffloads(facts),
    judgeDevice("vxlan", facts.vxlan, "vxlan (kernel)"),
    judgeDevice("ipip", facts.ipip, "ipip"),
    judgeNftables(facts),
    judgeIoUring(facts),
    judgeNeighbours(facts),
  ];
}
