/** The kernel's VXLAN device, set up by hand as flannel does: no learning, static entries. */
import { HOST_NUMBERS, type HostNumber, otherHost, OUTER_MTU_BYTES } from "../ground.ts";
import { REFERENCE_PATH } from "../results.ts";
import { foreignPath } from "./path.ts";

const DEVICE = "vxlan1";
const VNI = "1";
/** The kernel's default, and so flannel's. */
const PORT = "8472";
/** Outer IPv4, UDP and VXLAN (RFC 7348) headers, and the inner Ethernet header. */
const OVERHEAD_BYTES = 20 + 8 + 8 + 14;

function mac(host: HostNumber): string {
  return `02:53:45:4c:56:0${host}`;
}

export const kernelVxlan = foreignPath({
  id: REFERENCE_PATH,
  title: "kernel VXLAN",
  note: "the kernel's device with static neighbour and forwarding entries",
  packages: {},
  mtu_bytes: OUTER_MTU_BYTES - OVERHEAD_BYTES,
  build: (ground) => {
    for (const host of HOST_NUMBERS) {
      const other = otherHost(host);
      const gateway = `10.210.${other}.0`;
      const local = ground.outerAddress(host);
      const vxlan = ["type", "vxlan", "id", VNI, "local", local, "dev", "eth0", "dstport", PORT];
      ground.ip(host, "link", "add", DEVICE, "address", mac(host), ...vxlan, "nolearning");
      ground.ip(host, "addr", "add", `10.210.${host}.0/32`, "dev", DEVICE);
      ground.ip(host, "link", "set", DEVICE, "up");
      ground.ip(host, "neigh", "add", gateway, "lladdr", mac(other), "dev", DEVICE);
      ground.run(
        host,
        "bridge",
        ...["fdb", "add", mac(other), "dev", DEVICE, "dst", ground.outerAddress(other)],
      );
      ground.route(host, "via", gateway, "dev", DEVICE, "onlink");
    }
  },
});
