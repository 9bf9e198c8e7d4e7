/**
 * What the registry holds, in memory and on disk at once: memory follows only what is on the
 * disk, and listeners hear only what memory holds.
 */
import { MACHINE_CLOCK, timeOfDay_ms } from "../clock.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { formatNetworkConfig, parseNetworkConfig } from "../config/parse_network_config.ts";
import { errorText } from "../errors.ts";
import type { Lease, LeaseChange } from "../lease/lease.ts";
import { LeaseTable } from "../lease/lease_table.ts";
import type { UnreadableKey } from "../lease/unreadable_keys.ts";
import { RegistryDatabase, type RegistryEvent, type RegistryRows } from "./registry_database.ts";
import type { StoreState } from "./store.ts";

/** All leases at one revision. */
export interface Snapshot {
  readonly revision: number;
  readonly leases: readonly Lease[];
}

/** Some changes, in order, and the revision that stands after them. */
export interface ChangesSince {
  readonly revision: number;
  readonly changes: readonly LeaseChange[];
}

/** How many events stay in memory, so that watchers that keep up cost no query. */
const RECENT_COUNT_MAX = 1000;

/** How many events one call gives at most. */
const BATCH_COUNT_MAX = 256;

/** Table, configuration and log of a registry; whoever owns it decides what changes. */
export class RegistryState {
  readonly #database: RegistryDatabase;
  readonly #listeners = new Set<() => void>();
  #table = LeaseTable.EMPTY;
  #config: NetworkConfig | null = null;
  #configFileText: string | null = null;
  #revision = 0;
  #unreadableCount = 0;
  #unreadable: readonly UnreadableKey[] = [];
  /** The newest events, without gaps up to the present revision. */
  #recent: RegistryEvent[] = [];
  /** A commit failed, so what the file holds must be read again. */
  #isDoubtful = false;
  /** Why the file could not be read; null: it could. */
  #readFailure: string | null = null;
  /** This and the fault's by the steady clock. */
  #since_ms: number;
  /** What `health` said last, and since when that fails. */
  #fault: { readonly text: string; readonly since_ms: number } | null = null;

  /**
   * Opens or makes the file at `path`, or ":memory:", and keeps the last `eventCountMax` events.
   * Throws as `openSqlite`, or if the configuration in it is damaged.
   */
  constructor(path: string, readonly eventCountMax: number) {
    this.#since_ms = MACHINE_CLOCK.steady_ms();
    this.#database = new RegistryDatabase(path);
    try {
      this.#load();
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  get path(): string {
    return this.#database.path;
  }

  /** Random, made with the file: revisions of another registry mean nothing here. */
  get registryId(): string {
    return this.#database.registryId;
  }

  /** All that a backup keeps, as it is stored. */
  exportRows(): RegistryRows {
    return this.#database.exportRows();
  }

  get table(): LeaseTable {
    return this.#table;
  }

  get config(): NetworkConfig | null {
    return this.#config;
  }

  /** What the configuration file said when it was applied last; null: none was applied. */
  get configFileText(): string | null {
    return this.#configFileText;
  }

  get revision(): number {
    return this.#revision;
  }

  get unreadableCount(): number {
    return this.#unreadableCount;
  }

  /** The first few of the entries that cannot be read. */
  get unreadable(): readonly UnreadableKey[] {
    return this.#unreadable;
  }

  /**
   * Whether the file is known to hold what memory holds, since when, and what fails: a file that
   * refuses changes is a fault, although everything is in memory and can be read.
   */
  get health(): Pick<StoreState, "connected" | "since_ms" | "lastError" | "errorSince_ms"> {
    return {
      connected: !this.#isDoubtful,
      since_ms: timeOfDay_ms(this.#since_ms),
      lastError: this.#fault?.text ?? null,
      errorSince_ms: this.#fault && timeOfDay_ms(this.#fault.since_ms),
    };
  }

  /** Notes the present fault. */
  #noteFault(): void {
    const text = this.#readFailure ?? this.#database.failure;
    if (text === null) this.#fault = null;
    else this.#fault = { text, since_ms: this.#fault?.since_ms ?? MACHINE_CLOCK.steady_ms() };
  }

  #setDoubtful(isDoubtful: boolean): void {
    if (isDoubtful !== this.#isDoubtful) this.#since_ms = MACHINE_CLOCK.steady_ms();
    this.#isDoubtful = isDoubtful;
  }

  /** Looks whether changes can be made, repairs what it can, and has `health` say the rest. */
  check(): void {
    this.#database.check();
    this.#noteFault();
  }

  #load(): void {
    const contents = this.#database.load();
    const where = `registry ${this.path}`;
    this.#config = contents.configText === null
      ? null
      : parseNetworkConfig(contents.configText, where);
    this.#configFileText = this.#database.readConfigFile();
    this.#table = contents.table;
    this.#revision = contents.revision;
    this.#unreadableCount = contents.unreadableCount;
    this.#unreadable = contents.unreadable;
    this.#recent = [];
    this.#setDoubtful(false);
  }

  /**
   * After a failed commit: makes memory what the file holds. Commonly nothing of it was written,
   * and then nothing is read but how far the file is: while a disk is full, every host of the
   * network asks for a change that fails. Throws `unavailable` if the file cannot be read.
   */
  settle(): void {
    if (!this.#isDoubtful) return;
    const { revision } = this;
    try {
      if (this.#isAsFile()) this.#setDoubtful(false);
      else this.#load();
      this.#readFailure = null;
    } catch (error) {
      this.#readFailure = errorText(error);
      throw error;
    } finally {
      this.#noteFault();
    }
    if (this.#revision !== revision) this.#notifyListeners();
  }

  /** Whether the file holds what memory holds. Every change but that of this text is an event. */
  #isAsFile(): boolean {
    return this.#database.newestRevision() === this.#revision &&
      this.#database.readConfigFile() === this.#configFileText;
  }

  #notifyListeners(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  #commit(write: () => RegistryEvent[]): RegistryEvent[] {
    try {
      const events = this.#database.transact(() => {
        const written = write();
        this.#database.compact(this.#revision + written.length - this.eventCountMax);
        return written;
      });
      return events;
    } catch (error) {
      this.#setDoubtful(true);
      throw error;
    } finally {
      this.#noteFault();
    }
  }

  #remember(events: readonly RegistryEvent[]): void {
    this.#revision = events.at(-1)!.revision;
    this.#recent.push(...events.slice(-RECENT_COUNT_MAX));
    // Cut in steps, so that most events cost no copy.
    if (this.#recent.length > 2 * RECENT_COUNT_MAX) {
      this.#recent = this.#recent.slice(-RECENT_COUNT_MAX);
    }
  }

  /** Carries the changes out in one transaction. Throws `unavailable`; nothing is changed then. */
  apply(changes: readonly LeaseChange[]): void {
    if (changes.length === 0) return;
    const events = this.#commit(() => this.#database.write(changes, this.#revision));
    this.#table = this.#table.apply(changes);
    this.#remember(events);
    this.#notifyListeners();
  }

  /**
   * Replaces the configuration. `fileText`: it comes from a file, which says this. Throws as
   * `apply`.
   */
  setConfig(config: NetworkConfig, fileText: string | null = null): void {
    const text = formatNetworkConfig(config);
    const events = this.#commit(() => {
      if (fileText !== null) this.#database.writeConfigFile(fileText);
      return [this.#database.writeConfig(text, this.#revision)];
    });
    if (fileText !== null) this.#configFileText = fileText;
    this.#config = config;
    this.#remember(events);
    this.#notifyListeners();
  }

  /** Keeps what the configuration file says, without a change of the configuration. */
  rememberConfigFile(text: string): void {
    this.#commit(() => {
      this.#database.writeConfigFile(text);
      return [];
    });
    this.#configFileText = text;
  }

  #eventsAfter(revision: number): readonly RegistryEvent[] {
    const skipped = revision - (this.#revision - this.#recent.length);
    if (skipped >= 0) return this.#recent.slice(skipped, skipped + BATCH_COUNT_MAX);
    try {
      return this.#database.eventsAfter(revision, BATCH_COUNT_MAX);
    } catch {
      // As if they were forgotten: whoever asks lists anew, from memory.
      return [];
    }
  }

  /**
   * The next changes after a revision, some hundred at most; call again until the revision is the
   * present one. Null if they are not known any more, or if there never was such a revision.
   */
  changesSince(revision: number): ChangesSince | null {
    const oldest = Math.max(this.#revision - this.eventCountMax, 0);
    if (revision > this.#revision || revision < oldest) return null;
    const events = this.#eventsAfter(revision);
    if (revision < this.#revision && events[0]?.revision !== revision + 1) return null;
    return {
      revision: events.at(-1)?.revision ?? revision,
      changes: events.map((event) => event.change).filter((change) => change !== null),
    };
  }

  /** Calls `listener` after every change; it must not throw. Gives the function that ends it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Closes the file, and wakes the listeners a last time. */
  close(): void {
    this.#database.close();
    this.#notifyListeners();
    this.#listeners.clear();
  }
}
