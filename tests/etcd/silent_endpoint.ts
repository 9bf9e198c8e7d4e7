/** An endpoint that accepts connections and never answers. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";

export interface SilentEndpoint {
  /** ADDRESS:PORT. */
  readonly address: string;
  /** Connections that are open now, and how many there ever were. */
  readonly openCount: number;
  readonly acceptedCount: number;
  close(): Promise<void>;
}

export async function silentEndpoint(): Promise<SilentEndpoint> {
  const sockets = new Set<Socket>();
  let acceptedCount = 0;
  const server = createServer((socket) => {
    acceptedCount++;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    // What comes is read, so that the end of a connection is seen.
    socket.resume();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    get openCount() {
      return sockets.size;
    },
    get acceptedCount() {
      return acceptedCount;
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
