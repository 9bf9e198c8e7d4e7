/** Every path there is, in the order in which tables and chart show them. */
import { fastd } from "./fastd.ts";
import { kernelVxlan } from "./kernel_vxlan.ts";
import { n2n } from "./n2n.ts";
import { nebula } from "./nebula.ts";
import type { BenchPath } from "./path.ts";
import { plain } from "./plain.ts";
import {
  guardOff,
  guardOn,
  hostGw,
  kernelVxlanOfOurs,
  udp,
  udpTwoWorkers,
  udpWithoutOffload,
  userspaceVxlan,
} from "./selvage.ts";
import { tinc } from "./tinc.ts";
import { vtun } from "./vtun.ts";
import { wireguardGo } from "./wireguard_go.ts";

/** What needs no program of others. */
export const OWN_PATHS: readonly BenchPath[] = [
  plain,
  hostGw,
  kernelVxlan,
  kernelVxlanOfOurs,
  udp,
  userspaceVxlan,
  udpWithoutOffload,
  udpTwoWorkers,
  guardOn,
  guardOff,
];

/** Debian's userspace tunnels, which `--with` chooses from. */
export const TUNNELS: readonly BenchPath[] = [fastd, vtun, tinc, n2n, nebula, wireguardGo];
