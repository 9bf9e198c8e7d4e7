/** The way from one node to the members of a cluster, which a test cuts and joins again. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import type { EtcdMember } from "./lab.ts";

/**
 * While it is cut nothing arrives and nothing is refused, as with a namespace whose link is down:
 * who waits for an answer waits. What was sent meanwhile arrives afterwards, as TCP has it.
 */
export class CutLink {
  readonly #servers: Server[] = [];
  readonly #pairs = new Map<Socket, Socket>();
  #isCut = false;

  /** Members by their endpoints, which speak without TLS. */
  static async open(members: readonly EtcdMember[]): Promise<CutLink> {
    const link = new CutLink();
    for (const { endpoint } of members) await link.#listen(new URL(endpoint));
    return link;
  }

  async #listen({ hostname, port }: URL): Promise<void> {
    const server = createServer({ pauseOnConnect: true }, (socket) => {
      const on = connect(Number(port), hostname);
      this.#pairs.set(socket, on);
      for (const [end, other] of [[socket, on], [on, socket]] as const) {
        end.on("error", () => {});
        end.on("close", () => {
          other.destroy();
          this.#pairs.delete(socket);
        });
      }
      if (!this.#isCut) this.#pipe(socket, on);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    this.#servers.push(server);
  }

  #pipe(socket: Socket, on: Socket): void {
    socket.pipe(on).pipe(socket);
  }

  /** For the client of this node. */
  get endpoints(): string[] {
    return this.#servers.map((server) =>
      `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    );
  }

  cut(): void {
    if (this.#isCut) return;
    this.#isCut = true;
    for (const ends of this.#pairs) for (const end of ends) end.unpipe().pause();
  }

  join(): void {
    if (!this.#isCut) return;
    this.#isCut = false;
    for (const [socket, on] of this.#pairs) this.#pipe(socket, on);
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const ends of this.#pairs) for (const end of ends) end.destroy();
  }
}
