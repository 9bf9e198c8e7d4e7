/** Judges the network: forwarding, the outer interface, MTUs, ports. */
import type { OuterLink } from "../kernel/outer_link.ts";
import {
  ETHERNET_HEADER_BYTES,
  ipHeaderBytes,
  MTU_BYTES_MIN,
  UDP_HEADER_BYTES,
  VXLAN_HEADER_BYTES,
} from "../net/header_length.ts";
import type { Family } from "../net/ip.ts";
import type { HostFacts, PortFacts } from "./facts.ts";
import type { Judged } from "./judge_kernel.ts";
import { type BackendName, BACKENDS } from "./report.ts";

const STRICT = 1;

const SYSCTLS = { 4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding" } as const;

function judgeForwarding({ forwarding, config }: HostFacts, family: Family): Judged {
  const name = `IPv${family} forwarding`;
  const isNeeded = config?.families.includes(family) ?? family === 4;
  const facts = forwarding[family];
  if (facts === null) {
    const seen = `this host has no IPv${family}`;
    if (isNeeded) {
      const advice = `Switch IPv${family} on, or off in the network's configuration.`;
      return { name, result: "missing", seen, advice, blocks: BACKENDS };
    }
    if (config !== null) return { name, result: "ok", seen: `${seen}; not asked for`, advice: "" };
    const advice = `Networks without IPv${family} work.`;
    return { name, result: "warning", seen, advice };
  }
  if (facts.isOn) return { name, result: "ok", seen: "on", advice: "" };
  if (!isNeeded && config !== null) {
    return { name, result: "ok", seen: "off; not asked for", advice: "" };
  }
  const set = `sysctl -w ${SYSCTLS[family]}=1`;
  if (!isNeeded) {
    return { name, result: "warning", seen: "off", advice: `For IPv${family}: ${set}` };
  }
  if (facts.isWritable) {
    const advice = `selvage run switches it on; by hand: ${set}`;
    return { name, result: "warning", seen: "off", advice };
  }
  const advice = `Run this as root, in a place where /proc/sys is writable: ${set}`;
  return { name, result: "missing", seen: "off, and cannot be set here", advice, blocks: BACKENDS };
}

function judgeLink({ link }: HostFacts): Judged {
  const name = "outer interface";
  if (!("name" in link)) {
    return { name, result: "missing", seen: link.why, advice: link.hint, blocks: BACKENDS };
  }
  const addresses = link.addresses.join(", ");
  const seen = `${link.name}, ${addresses}, MTU ${link.mtu_bytes}`;
  const isOwn = link.publicAddresses.every((one) => link.addresses.some((own) => own.equals(one)));
  if (isOwn) return { name, result: "ok", seen, advice: "" };
  const advice = "host-gw needs the interface's own address: leave --public-ip out for it.";
  const told = `${seen}, public ${link.publicAddresses.join(", ")}`;
  return { name, result: "warning", seen: told, advice, blocks: ["host-gw"] };
}

function judgeRpFilter({ rpFilter, link }: HostFacts): Judged[] {
  if (!("name" in link) || rpFilter === null) return [];
  const name = "rp_filter";
  if (rpFilter !== STRICT) return [{ name, result: "ok", seen: `${rpFilter}`, advice: "" }];
  const advice = "If packets of peers can arrive by several interfaces, run: sysctl -w " +
    `net.ipv4.conf.${link.name}.rp_filter=2`;
  return [{ name, result: "warning", seen: `strict at ${link.name}`, advice }];
}

/** The largest inner packet by backend, of what the interface carries. */
function innerMtus({ mtu_bytes }: OuterLink): [name: string, mtu_bytes: number, min: number][] {
  const udp = UDP_HEADER_BYTES;
  const vxlan = udp + VXLAN_HEADER_BYTES + ETHERNET_HEADER_BYTES;
  const [ip4, ip6] = [ipHeaderBytes(4), ipHeaderBytes(6)];
  return [
    ["udp", mtu_bytes - ip4 - udp, MTU_BYTES_MIN[4]],
    ["vxlan", mtu_bytes - ip4 - vxlan, MTU_BYTES_MIN[4]],
    ["vxlan of IPv6", mtu_bytes - ip6 - vxlan, MTU_BYTES_MIN[6]],
    ["host-gw", mtu_bytes, MTU_BYTES_MIN[4]],
    ["ipip", mtu_bytes - ip4, MTU_BYTES_MIN[4]],
  ];
}

const MTU_BLOCKS: Readonly<Record<string, readonly BackendName[]>> = {
  udp: ["udp"],
  vxlan: ["vxlan (userspace)", "vxlan (kernel)"],
  "host-gw": ["host-gw"],
  ipip: ["ipip"],
};

function judgeMtu({ link, config }: HostFacts): Judged[] {
  if (!("name" in link)) return [];
  const name = "inner MTU";
  if (config !== null) {
    // Where there is none, the configuration's own row says why.
    if (config.mtu_bytes === null) return [];
    const seen = `${config.type} ${config.mtu_bytes}`;
    return [{ name, result: "ok", seen, advice: "" }];
  }
  const mtus = innerMtus(link);
  const seen = mtus.map(([backend, mtu_bytes]) => `${backend} ${mtu_bytes}`).join(", ");
  const short = mtus.filter(([, mtu_bytes, min]) => mtu_bytes < min).map(([backend]) => backend);
  if (short.length === 0) return [{ name, result: "ok", seen, advice: "" }];
  const advice = `Too small for ${short.join(", ")}: raise the MTU of ${link.name}.`;
  const blocks = short.flatMap((backend) => MTU_BLOCKS[backend] ?? []);
  return [{ name, result: "warning", seen, advice, blocks }];
}

const BY_USE: Readonly<Record<PortFacts["use"], readonly BackendName[]>> = {
  udp: ["udp"],
  vxlan: ["vxlan (userspace)", "vxlan (kernel)"],
  api: BACKENDS,
  registry: BACKENDS,
};

const KERNEL_VXLAN: readonly BackendName[] = ["vxlan (kernel)"];

const PORT_ADVICE: Readonly<Record<PortFacts["use"], string>> = {
  udp: "Stop the other program (ss -lunp shows it), or set Backend.Port.",
  vxlan: "Stop the other program (ss -lunp shows it), or set Backend.Port.",
  api: "Stop the other program (ss -ltnp shows it), or set --api-listen.",
  registry: "Stop the other program (ss -ltnp shows it), or set --registry-listen.",
};

const USE_TEXT = { udp: "UDP of udp", vxlan: "UDP of vxlan", api: "API", registry: "registry" };

/** Devices may outlive the selvage that made them; then they hold UDP ports, and no others. */
function isPerhapsOurs(use: PortFacts["use"], { isRunning, ownDevices }: HostFacts): boolean {
  if (isRunning === true) return true;
  const isUdp = use === "udp" || use === "vxlan";
  return ownDevices.length > 0 && (isUdp || isRunning === null);
}

/** Whether a process that is no selvage holds the port. */
function isAnotherPrograms({ holder }: PortFacts, { isRunning }: HostFacts): boolean {
  const command = holder?.command ?? null;
  if (command === null || command === "selvage") return false;
  // The name that a selvage in place of flanneld has.
  return !(command === "flanneld" && isRunning === true);
}

function judgeTakenPort(port: PortFacts, seen: string): Judged {
  const { use, holder, isTakenElsewhere = false } = port;
  const by = `${seen}, by ${holder!.command} (process ${holder!.pid})`;
  const blocks = isTakenElsewhere ? KERNEL_VXLAN : BY_USE[use];
  const name = `${USE_TEXT[use]} port`;
  return { name, result: "missing", seen: by, advice: PORT_ADVICE[use], blocks };
}

function judgePort(port: PortFacts, facts: HostFacts): Judged {
  const { use, where, trial, isChosen } = port;
  const name = `${USE_TEXT[use]} port`;
  const advice = PORT_ADVICE[use];
  const uses = port.isTakenElsewhere === true ? KERNEL_VXLAN : BY_USE[use];
  if (trial.state === "works") return { name, result: "ok", seen: `${where} is free`, advice: "" };
  if (trial.state === "unseen") {
    const seen = `${where} not looked at: ${trial.why}`;
    return {
      name,
      result: "warning",
      seen,
      advice: "Run selvage check again when the address is ready.",
    };
  }
  const seen = trial.why.includes(where) ? trial.why : `${where}: ${trial.why}`;
  if (isAnotherPrograms(port, facts)) return judgeTakenPort(port, seen);
  if (isPerhapsOurs(use, facts)) {
    const [device] = facts.ownDevices;
    const whose = device === undefined ? "" : `, whose device is ${device}`;
    const own = `Perhaps the selvage that runs here${whose}.`;
    return { name, result: "warning", seen, advice: own };
  }
  if (use === "registry" && !isChosen) {
    return { name, result: "warning", seen, advice: `Only for the registry's host: ${advice}` };
  }
  const isKernels = use === "vxlan" && facts.vxlanDevices.length > 0;
  if (!isKernels) return { name, result: "missing", seen, advice, blocks: uses };
  return {
    name,
    result: "warning",
    seen,
    advice: `Perhaps the kernel uses it for ${
      facts.vxlanDevices[0]
    }. Only vxlan in the kernel can share it.`,
    blocks: ["vxlan (userspace)"],
    leavesOpen: ["vxlan (kernel)"],
  };
}

export function judgeNetworkFacts(facts: HostFacts): Judged[] {
  return [
    judgeForwarding(facts, 4),
    judgeForwarding(facts, 6),
    judgeLink(facts),
    ...judgeRpFilter(facts),
    ...judgeMtu(facts),
    ...facts.ports.map((port) => judgePort(port, facts)),
  ];
}
