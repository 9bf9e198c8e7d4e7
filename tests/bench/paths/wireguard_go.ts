/** wireguard-go, configured over its own socket (WireGuard's cross-platform interface). */
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { HOST_NUMBERS, otherHost, OUTER_MTU_BYTES, subnetOf } from "../ground.ts";
import { processesIn } from "../processes.ts";
import { foreignPath } from "./path.ts";

const PORT = 51_820;
/** Outer IPv4 and UDP headers, WireGuard's header and the cipher's tag. */
const MTU_BYTES = OUTER_MTU_BYTES - 20 - 8 - 16 - 16;
const DEVICE = "wg0";

/** An X25519 key pair, in hexadecimal as the interface wants it. */
function keyPair(): { secret: string; open: string } {
  const { d, x } = generateKeyPairSync("x25519").privateKey.export({ format: "jwk" });
  const hex = (text: string | undefined) => Buffer.from(text!, "base64url").toString("hex");
  return { secret: hex(d), open: hex(x) };
}

/** Sends one request; throws what the daemon answers if that is not success. */
async function configure(socketPath: string, lines: readonly string[]): Promise<void> {
  const socket = connect(socketPath);
  let answer = "";
  socket.setEncoding("utf8").on("data", (text) => answer += text);
  await once(socket, "connect");
  socket.end(`${lines.join("\n")}\n\n`);
  await once(socket, "close");
  if (!/^errno=0$/m.test(answer)) throw new Error(`wireguard-go answered ${answer.trim()}`);
}

export const wireguardGo = foreignPath({
  id: "wireguard-go",
  title: "wireguard-go",
  note: "wireguard-go, ChaCha20-Poly1305 (it always encrypts)",
  packages: { "wireguard-go": "wireguard-go" },
  mtu_bytes: MTU_BYTES,
  build: async (ground) => {
    const keys = HOST_NUMBERS.map(keyPair);
    for (const host of HOST_NUMBERS) {
      const other = otherHost(host);
      ground.startPrivate(host, "wireguard-go", "--foreground", DEVICE);
      await ground.device(host, DEVICE);
      // Its socket is named after the device, the same for all namespaces of the machine.
      const [pid] = processesIn(ground.network(host).host);
      const socketPath = `/proc/${pid}/root/run/wireguard/${DEVICE}.sock`;
      await ground.until("wireguard-go's socket", () => existsSync(socketPath));
      await configure(socketPath, [
        "set=1",
        `private_key=${keys[host - 1]!.secret}`,
        `listen_port=${PORT}`,
        `public_key=${keys[other - 1]!.open}`,
        `endpoint=${ground.outerAddress(other)}:${PORT}`,
        `allowed_ip=${subnetOf(other)}`,
      ]);
      ground.ip(host, "link", "set", DEVICE, "mtu", String(MTU_BYTES), "up");
      ground.route(host, "dev", DEVICE);
    }
  },
});
