/** A registry on loopback, and a host that joined it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureCertificate, type RegistryCertificate } from "../../src/registry/certificate.ts";
import type { JoinString } from "../../src/registry/join_string.ts";
import { RemoteStore, type RemoteStoreOptions } from "../../src/registry/remote_store.ts";
import {
  listenRegistry,
  type RegistryLimits,
  type RegistryServer,
} from "../../src/registry/server.ts";
import { tokensPath, TokenStore } from "../../src/registry/tokens.ts";
import { EmbeddedStore, registryPath } from "../../src/store/embedded_store.ts";
import { FakeClock, type HarnessOptions, TTL_MS } from "../store/harness.ts";

/** Long enough that no test meets it by chance, short enough that a hanging one fails. */
const QUICK: RemoteStoreOptions = { backoffFirst_ms: 5, backoffMax_ms: 20 };

export class TestRegistry {
  readonly parent = mkdtempSync(join(tmpdir(), "selvage-registry-"));
  readonly stateDir = join(this.parent, "state");
  readonly tokens = new TokenStore(tokensPath(this.stateDir));
  readonly clock = new FakeClock();
  readonly #remotes: RemoteStore[] = [];
  certificate!: RegistryCertificate;
  token!: { id: string; text: string };
  store!: EmbeddedStore;
  server!: RegistryServer;
  #port = 0;

  constructor(
    readonly options: HarnessOptions,
    readonly limits: Partial<RegistryLimits> = {},
  ) {}

  static async start(
    options: HarnessOptions,
    limits: Partial<RegistryLimits> = {},
  ): Promise<TestRegistry> {
    const self = new TestRegistry(options, limits);
    self.certificate = await ensureCertificate(self.stateDir);
    const { info, token } = self.tokens.create("join", "a test");
    self.token = { id: info.id, text: token };
    self.openStore();
    await self.listen();
    return self;
  }

  openStore(path = registryPath(this.stateDir)): void {
    this.store = new EmbeddedStore({ ...this.options, path, ttl_ms: TTL_MS, clock: this.clock });
  }

  /** Listens where it did before, if it did. */
  async listen(): Promise<void> {
    this.server = await listenRegistry({
      listen: { host: "127.0.0.1", port: this.#port },
      store: this.store,
      tokens: this.tokens,
      certificate: this.certificate,
      limits: { closeGrace_ms: 50, refusalDelayMax_ms: 1, ...this.limits },
    });
    this.#port = this.server.port;
  }

  join(changes: Partial<JoinString> = {}): JoinString {
    return {
      addresses: [{ host: "127.0.0.1", port: this.#port }],
      token: this.token.text,
      fingerprint: this.certificate.fingerprint,
      ...changes,
    };
  }

  /** A joined host's store; closed with the registry. */
  remote(changes: Partial<JoinString> = {}, options: RemoteStoreOptions = {}): RemoteStore {
    const remote = new RemoteStore(this.join(changes), { ...QUICK, ...options });
    this.#remotes.push(remote);
    return remote;
  }

  async close(): Promise<void> {
    for (const remote of this.#remotes) await remote.close();
    await this.server.close();
    await this.store.close();
    this.tokens.close();
    rmSync(this.parent, { recursive: true });
  }
}
