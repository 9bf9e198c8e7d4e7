/** Whether the ports are free: each is bound as `selvage run` would, and let go at once. */
import { connect, createServer } from "node:net";
import { closeFd } from "../../ffi/fd.ts";
import { openUdpSocket } from "../../ffi/udp_socket.ts";
import { DEFAULTS } from "../agent/options.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import { formatHostPort, type HostPort } from "../net/host_port.ts";
import { IpAddress, ofFamily } from "../net/ip.ts";
import { findPortHolder } from "../port_holder.ts";
import type { PortFacts, Trial } from "./facts.ts";
import type { CheckOptions } from "./options.ts";
import { attempt, codeOf, fromError, unseen, WORKS } from "./trial.ts";

const ANY = IpAddress.parse("0.0.0.0");
/** Longer than listening can take. */
const LISTEN_MS_MAX = 2_000;
const NOT_ALLOWED = ["EACCES", "EPERM"];
/** The address has gone, or is not ready yet. */
const NO_ADDRESS = ["EADDRNOTAVAIL", "EAFNOSUPPORT"];

/** UDP ports to look at. */
export interface UdpPort {
  readonly use: "udp" | "vxlan";
  readonly port: number;
  readonly isChosen: boolean;
}

function udpPorts(wanted: readonly UdpPort[], link: OuterLink | null): PortFacts[] {
  const own = link?.addresses ?? [];
  return wanted.flatMap(({ use, port, isChosen }) => {
    // udp is of IPv4 alone.
    const addresses = own.filter(({ family }) => use === "vxlan" || family === 4);
    return (addresses.length === 0 ? [ANY] : addresses).map((address) => {
      const facts = { use, port, isChosen };
      const own = tryUdp(address, port);
      // The kernel's VXLAN listens at all addresses, also at those that Selvage does not use.
      const isKernels = use === "vxlan" && own.trial.state === "works";
      const all = isKernels ? tryUdp(IpAddress.of(address.family, 0n), port) : own;
      if (all.trial.state !== "refused") return { ...facts, ...own };
      return { ...facts, ...all, isTakenElsewhere: isKernels };
    });
  });
}

/** Binds the port, and lets it go. */
function tryUdp(address: IpAddress, port: number): Pick<PortFacts, "where" | "trial" | "holder"> {
  const where = formatHostPort({ host: `${address}`, port });
  const trial = attempt(() => closeFd(openUdpSocket(address.toBytes(), port)), NO_ADDRESS);
  const holder = trial.state === "refused" ? findPortHolder("udp", address, port) : null;
  return { where, trial, holder };
}

/** Listens, and stops. */
function tryListen({ host, port }: HostPort): Promise<Trial> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy());
    const late = () => {
      server.close();
      resolve(unseen(`no answer within ${LISTEN_MS_MAX / 1000} s`));
    };
    const timer = setTimeout(late, LISTEN_MS_MAX);
    server.on("error", (error) => {
      clearTimeout(timer);
      resolve(fromError(error));
    });
    server.listen({ host, port, exclusive: true }, () => {
      clearTimeout(timer);
      server.close(() => resolve(WORKS));
    });
  });
}

/** Whether somebody answers at the API's socket; null: this process may not ask. */
export function probeRunning(path: string): Promise<boolean | null> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const end = (answer: boolean | null) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => end(null), LISTEN_MS_MAX);
    socket.on("connect", () => end(true));
    socket.on("error", (error) => end(NOT_ALLOWED.includes(codeOf(error)) ? null : false));
  });
}

async function tcpPort(
  use: "api" | "registry",
  hostPort: HostPort,
  isChosen: boolean,
): Promise<PortFacts> {
  const trial = await tryListen(hostPort);
  return { use, port: hostPort.port, where: formatHostPort(hostPort), isChosen, trial };
}

export async function probePorts(
  wanted: readonly UdpPort[],
  link: OuterLink | null,
  { apiListen, registryListen }: CheckOptions,
): Promise<PortFacts[]> {
  const ports = udpPorts(wanted, link);
  if (apiListen !== null) ports.push(await tcpPort("api", apiListen, true));
  const host = `${ofFamily(link?.addresses ?? [], 4) ?? ANY}`;
  const registry = registryListen ?? { host, port: DEFAULTS.registryPort };
  ports.push(await tcpPort("registry", registry, registryListen !== null));
  return ports;
}
