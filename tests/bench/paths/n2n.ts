/** n2n: two edges and a supernode on the first host. Debian's version has no null cipher. */
import { HOST_NUMBERS, otherHost, OUTER_MTU_BYTES, tunnelAddress } from "../ground.ts";
import { foreignPath } from "./path.ts";

const DEVICE = "n2n0";
const SUPERNODE_PORT = "7654";
/**
 * Outer IPv4 and UDP headers, n2n's own header, cipher padding and the inner Ethernet header, as
 * far as they are documented: what is left holds the datagrams that are measured.
 */
const MTU_BYTES = OUTER_MTU_BYTES - 20 - 8 - 44;

export const n2n = foreignPath({
  id: "n2n",
  title: "n2n",
  note: "n2n as Debian has it, Twofish",
  packages: { edge: "n2n", supernode: "n2n" },
  mtu_bytes: MTU_BYTES,
  build: async (ground) => {
    ground.start(1, "supernode", "-l", SUPERNODE_PORT);
    for (const host of HOST_NUMBERS) {
      const address = ["-d", DEVICE, "-a", tunnelAddress(host), "-s", "255.255.255.0"];
      const community = ["-c", "bench", "-k", "bench", "-r", "-M", String(MTU_BYTES)];
      const supernode = ["-l", `${ground.outerAddress(1)}:${SUPERNODE_PORT}`];
      const mac = ["-m", `02:6e:32:6e:00:0${host}`];
      ground.start(host, "edge", ...address, ...community, ...supernode, ...mac);
    }
    for (const host of HOST_NUMBERS) {
      await ground.device(host, DEVICE);
      await ground.until(`n2n's address on host ${host}`, () => {
        return ground.run(host, "ip", "addr", "show", DEVICE).includes(tunnelAddress(host));
      });
      ground.route(host, "via", tunnelAddress(otherHost(host)), "dev", DEVICE);
    }
  },
});
