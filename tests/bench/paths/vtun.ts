/** VTun: a UDP tunnel without encryption, compression or shaping. */
import { writeFileSync } from "node:fs";
import { HOST_NUMBERS, OUTER_MTU_BYTES } from "../ground.ts";
import { foreignPath } from "./path.ts";

const DEVICE = "tun0";
/** Outer IPv4 and UDP headers, and VTun's two bytes of length and flags. */
const MTU_BYTES = OUTER_MTU_BYTES - 20 - 8 - 2;
const PORT = "5000";
const SESSION = "bench";

const CONFIG = `
options { port ${PORT}; }
default { compress no; encrypt no; speed 0; stat no; keepalive yes; }
${SESSION} { passwd bench; type tun; proto udp; device ${DEVICE}; }
`;

export const vtun = foreignPath({
  id: "vtun",
  title: "VTun",
  note: "VTun over UDP, neither encryption nor compression",
  packages: { vtund: "vtun" },
  mtu_bytes: MTU_BYTES,
  build: async (ground) => {
    // Its own device it would read before that is up, and take the error for the end.
    for (const host of HOST_NUMBERS) {
      ground.ip(host, "tuntap", "add", "dev", DEVICE, "mode", "tun");
      ground.ip(host, "link", "set", DEVICE, "mtu", String(MTU_BYTES), "up");
      ground.route(host, "dev", DEVICE);
    }
    const file = ground.file("vtund.conf");
    writeFileSync(file, CONFIG, { mode: 0o600 });
    ground.startPrivate(1, "vtund", "-n", "-s", "-f", file);
    await ground.listening(1, Number(PORT));
    ground.startPrivate(2, "vtund", "-n", "-p", "-f", file, SESSION, ground.outerAddress(1));
  },
});
