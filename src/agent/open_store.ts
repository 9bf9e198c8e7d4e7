/** Opens the lease store that the flags ask for, and the registry's listener where it is wanted. */
import { existsSync, mkdirSync } from "node:fs";
import type { TokenAdmin } from "../api/control.ts";
import { fileReason, SelvageError } from "../errors.ts";
import type { EtcdOptions } from "../etcd/options.ts";
import type { HostFeatures } from "../backend/select.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { JoinString } from "../registry/join_string.ts";
import type { RegistryCertificate } from "../registry/certificate.ts";
import type { RegistryServer } from "../registry/server.ts";
import { tokensPath, TokenStore } from "../registry/tokens.ts";
import { logger } from "../log.ts";
import type { LeaseStore, StoreState } from "../store/store.ts";
import { ConfigFile } from "./config_file.ts";
import { HostTokens } from "./host_tokens.ts";
import { judgeNetwork, type Network } from "./network.ts";
import type { RunOptions } from "./options.ts";
import type { KeptPart } from "./state_keeper.ts";
import type { ListenerStatus, Status } from "./status.ts";

/** How hosts can join a registry that does not listen. */
const NOT_LISTENING =
  "Start selvage here with --registry-listen ADDR:PORT, so that other hosts can join.";

export interface OpenedStore {
  readonly store: LeaseStore;
  /** Identifies the store, whichever of its addresses is used; null: it is on this host. */
  readonly identity: string | null;
  readonly tokens: TokenAdmin;
  readonly registry: Status["registry"];
  /** The registry's listener; none on a host that joined another. */
  readonly listeners: () => ListenerStatus[];
  /** The configuration of `--net-config`, judged, not yet in force; null: there is nothing new. */
  readonly newConfig: { readonly network: Network; put(): void } | null;
  /**
   * Facts about the store that an operator should know and that are no problems, one sentence each.
   */
  readonly notices: () => readonly string[];
  /** Makes a text the network's configuration, naming its source in errors; null: not from here. */
  readonly setConfig: ((text: string, where: string) => Promise<void>) | null;
  /** Makes the text of a backup; null: the leases are kept elsewhere. */
  readonly backUp: (() => string) | null;
  /** What the store keeps in the state directory. */
  readonly kept: readonly KeptPart[];
  close(): Promise<void>;
}

/** What a configuration is held against. */
export interface ThisHost {
  /** The outer interface as it is now. */
  readonly link: () => OuterLink;
  readonly host: HostFeatures;
}

async function openEmbedded(
  options: RunOptions,
  thisHost: ThisHost,
  tokens: TokenStore,
): Promise<OpenedStore> {
  const { link, host } = thisHost;
  const file = options.netConfigFile === null
    ? null
    : new ConfigFile(options.netConfigFile, (config) => judgeNetwork(config, link(), host));
  // SQLite is loaded by hosts that keep a registry alone.
  const { EmbeddedStore, registryPath } = await import("../store/embedded_store.ts");
  const { formatBackup } = await import("../registry/backup.ts");
  const { storedCertificate } = await import("../registry/certificate.ts");
  const path = registryPath(options.stateDir);
  // A start that is refused makes no files.
  if (!existsSync(path)) file?.judge();
  const store = new EmbeddedStore({ path });
  try {
    file?.introduceTo(store);
    const newNetwork = file?.isNewTo(store) ? file.judge() : null;
    const notice = () => file?.notice(store) ?? null;
    if (newNetwork === null && notice() !== null) logger("agent").warning`${notice()}`;
    const served = await listenIfAsked(options, store, tokens);
    const server = served?.server ?? null;
    return {
      store,
      backUp: () => {
        const certificate = served?.certificate ?? storedCertificate(options.stateDir);
        const parts = { registry: store.exportRows(), tokens: tokens.exportRows(), certificate };
        return formatBackup(parts, Date.now());
      },
      kept: [{
        check: () => store.check(),
        get failure() {
          return store.state().lastError;
        },
      }],
      identity: null,
      tokens: new HostTokens(
        tokens,
        server && { server, listen: options.registryListen!, link },
        { elsewhere: NOT_LISTENING, keepsRegistry: true },
      ),
      registry: server && { listen: server.location, fingerprint: server.fingerprint },
      listeners: () =>
        server === null ? [] : [{ name: "registry", location: server.location, ...server.load }],
      newConfig: newNetwork && { network: newNetwork, put: () => file!.apply(store) },
      notices: () => [notice()].filter((text) => text !== null),
      // deno-lint-ignore require-await -- so that a failure is a rejection
      setConfig: async (text, where) => {
        const isChanged = store.setConfig(text, where);
        if (isChanged && notice() !== null) logger("agent").warning`${notice()}`;
      },
      async close() {
        await server?.close();
        await store.close();
      },
    };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** Resources of a registry that other hosts can reach. */
interface ServedRegistry {
  readonly server: RegistryServer;
  readonly certificate: RegistryCertificate;
}

async function listenIfAsked(
  options: RunOptions,
  store: InstanceType<typeof import("../store/embedded_store.ts").EmbeddedStore>,
  tokens: TokenStore,
): Promise<ServedRegistry | null> {
  if (options.registryListen === null) return null;
  const { ensureCertificate } = await import("../registry/certificate.ts");
  const { listenRegistry } = await import("../registry/server.ts");
  const { stateDir, registryListen: listen } = options;
  const certificate = await ensureCertificate(stateDir);
  const server = await listenRegistry({ listen, store, tokens, certificate });
  return { server, certificate };
}

/** Tells of each change of a store's state. */
function stateLog(): (state: StoreState) => void {
  let before: StoreState | null = null;
  return (state) => {
    logState(state, before);
    before = state;
  };
}

function logState(state: StoreState, before: StoreState | null): void {
  const { kind, connected, location, lastError } = state;
  const name = kind === "etcd" ? kind : "registry";
  const shown = kind === "etcd" ? kind : "the registry";
  if (!connected) logger("store").warning`${name} lost: ${lastError}`;
  else if (lastError !== null) logger("store").warning`${lastError}`;
  else if (before?.connected !== true) logger("store").info`connected to ${shown} at ${location}`;
  else logger("store").info`no longer: ${before.lastError}`;
}

async function openRemote(
  join: JoinString,
  tokens: TokenStore,
): Promise<OpenedStore> {
  const { RemoteStore } = await import("../registry/remote_store.ts");
  const store = new RemoteStore(join, { onStateChange: stateLog() });
  return {
    store,
    identity: `registry ${join.fingerprint}`,
    tokens: new HostTokens(
      tokens,
      null,
      {
        elsewhere: `This host joined the registry at ${store.state().location}. Make, list and ` +
          "revoke join tokens on that host.",
        keepsRegistry: false,
      },
    ),
    registry: null,
    listeners: () => [],
    newConfig: null,
    notices: () => [],
    backUp: null,
    kept: [],
    setConfig: null,
    close: () => store.close(),
  };
}

async function openEtcd(
  etcd: EtcdOptions,
  tokens: TokenStore,
): Promise<OpenedStore> {
  // What speaks gRPC takes memory that hosts without etcd need not pay for.
  const { openEtcdStore } = await import("../etcd/open_etcd_store.ts");
  const store = openEtcdStore(etcd, { onStateChange: stateLog() });
  return {
    store,
    identity: `etcd ${[...etcd.endpoints].sort().join(",")} ${etcd.prefix}`,
    tokens: new HostTokens(
      tokens,
      null,
      {
        elsewhere:
          "The leases are kept in etcd: there is no registry to join, and hosts need no token.",
        keepsRegistry: false,
      },
    ),
    registry: null,
    listeners: () => [],
    newConfig: null,
    notices: () => [],
    backUp: null,
    kept: [],
    setConfig: async (text, where) => void await store.setConfig(text, where),
    close: () => store.close(),
  };
}

function openChosen(
  options: RunOptions,
  thisHost: ThisHost,
  tokens: TokenStore,
): Promise<OpenedStore> {
  const { etcd, join } = options;
  if (etcd !== null) return openEtcd(etcd, tokens);
  if (join !== null) return openRemote(join, tokens);
  return openEmbedded(options, thisHost, tokens);
}

function makeStateDir(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new SelvageError(
      "permission",
      `cannot make the state directory ${path}: ${fileReason(error)}`,
      {
        hint: "Name a directory that can be written to: --state-dir PATH.",
        cause: error,
      },
    );
  }
}

/**
 * Opens the store. Throws, with nothing left open, on a configuration that breaks its rules, a
 * join string that is none, an endpoint or file of etcd's that will not do, a state directory that
 * cannot be used, or a port in use.
 */
export async function openStore(options: RunOptions, thisHost: ThisHost): Promise<OpenedStore> {
  // A start that is refused makes no files.
  if (options.registryListen !== null) {
    const { requireListenable } = await import("../registry/listen_address.ts");
    await requireListenable(options.registryListen);
  }
  makeStateDir(options.stateDir);
  const tokens = new TokenStore(tokensPath(options.stateDir));
  try {
    // This reports a damaged file now, and not only when the first host wants to join.
    tokens.list();
    const opened = await openChosen(options, thisHost, tokens);
    return {
      ...opened,
      kept: [...opened.kept, tokens],
      async close() {
        await opened.close();
        tokens.close();
      },
    };
  } catch (error) {
    tokens.close();
    throw error;
  }
}
