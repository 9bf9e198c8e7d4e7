/** An etcd on the first host of a lab, which the lab's other hosts reach. */
import { type ChildProcess, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withNetns } from "../../ffi/netns.ts";
import { endProcess, spawnInNetns } from "../../src/demo/child.ts";
import { EXECUTABLE, type Lab } from "./lab.ts";

const TIMEOUT_MS = 30_000;

export class LabEtcd {
  #child: ChildProcess | null = null;
  readonly #data = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "selvage-"));
  readonly url: string;

  constructor(readonly lab: Lab) {
    this.url = `http://${lab.network(1).outerAddress}:2379`;
  }

  /** Does not wait until it serves. */
  start(): void {
    const peer = "http://127.0.0.1:2380";
    this.#child = spawnInNetns(this.lab.network(1).host, "etcd", [
      ...["--name", "one", "--data-dir", this.#data, "--log-level", "error", "--logger", "zap"],
      ...["--listen-client-urls", this.url, "--advertise-client-urls", this.url],
      ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
      ...["--initial-cluster", `one=${peer}`],
    ], ["ignore", "ignore", "ignore"]);
  }

  /** Runs a command of selvage on a host, with this etcd's endpoint as its last arguments. */
  run(host: number, ...args: string[]) {
    const env = {
      ...process.env,
      SELVAGE_API_SOCKET: join(this.lab.hostDirectory(host), "api.sock"),
    };
    const options = { encoding: "utf8", timeout: TIMEOUT_MS, env } as const;
    return withNetns(
      this.lab.network(host).host,
      () => spawnSync(EXECUTABLE.command, [...args, "--etcd-endpoints", this.url], options),
    );
  }

  async close(): Promise<void> {
    if (this.#child !== null) await endProcess(this.#child);
    rmSync(this.#data, { recursive: true, force: true });
  }
}
