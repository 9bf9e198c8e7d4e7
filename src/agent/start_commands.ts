/** The user's commands of backends that have some; the code that runs them is loaded for those. */
import type { OuterLink } from "../kernel/outer_link.ts";
import type { Lease } from "../lease/lease.ts";
import type { Extension, StartObserver } from "./extension.ts";
import type { Network } from "./network.ts";

/**
 * Runs what the network's configuration names for before a lease is asked for, until it ends well,
 * and resolves with what it printed; null: there is nothing to run. Rejects with the signal's
 * reason.
 */
export async function prepareHost(
  { backend, config }: Network,
  signal: AbortSignal,
  observer: StartObserver,
): Promise<string | null> {
  const commands = backend.commands?.(config);
  if (commands === undefined) return null;
  const { announceCommands, runPreStartup } = await import("./extension.ts");
  announceCommands(commands);
  return await runPreStartup(commands, signal, observer);
}

/**
 * Starts the commands that go with a lease, and resolves after the first try of PostStartupCommand;
 * `onRun` is called when that try begins. Returns null if the backend has no commands.
 */
export async function startExtension(
  { backend, config }: Network,
  lease: Lease,
  link: OuterLink,
  signal: AbortSignal,
  onRun: StartObserver["onRun"],
): Promise<Extension | null> {
  const commands = backend.commands?.(config);
  if (commands === undefined) return null;
  const { Extension } = await import("./extension.ts");
  const extension = new Extension({
    commands,
    networks: config.ranges.map(({ network }) => network),
    subnets: lease.subnets,
    publicAddresses: link.publicAddresses,
  });
  if (commands.postStartup !== null) onRun("PostStartupCommand is running");
  await extension.start(signal);
  return extension;
}
