/** Follows what the kernel tells of its own accord, for as long as the agent runs. */
import { NetlinkListener } from "../../ffi/netlink_listener.ts";
import { errorText } from "../errors.ts";
import { logger } from "../log.ts";
import { type NetlinkMessage, parseMessages } from "../netlink/message.ts";
import { Backoff, pause } from "../retry.ts";

const RETRY_FIRST_MS = 50;
const RETRY_MAX_MS = 5_000;
/** What happens while nobody listens is to be seen within a second. */
const LOSS_RETRY_MAX_MS = 200;
/** After so long without trouble the next is the first. */
const QUIET_MS = 10_000;

export interface KernelWatchOptions {
  readonly protocol: number;
  readonly groups: readonly number[];
  /** Takes messages in their order; borrowed for the call. */
  readonly take: (messages: readonly NetlinkMessage[]) => void;
  /** Told at the start, and when messages may have been missed. */
  readonly onGap: () => void;
}

/** Both runtimes' errors have the errno's name for a code. */
function isLoss(error: unknown): boolean {
  return (error as { readonly code?: unknown } | null)?.code === "ENOBUFS";
}

/** Whether the kernel has no such protocol; the code that needs it reports that once. */
function isUnsupported(error: unknown): boolean {
  return (error as { readonly code?: unknown } | null)?.code === "EPROTONOSUPPORT";
}

/** Until the signal is aborted. Whatever happens meanwhile, it listens again after a while. */
export async function followKernel(
  { protocol, groups, take, onGap }: KernelWatchOptions,
  signal: AbortSignal,
): Promise<void> {
  const log = logger("kernel");
  const backoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
  let told = "";
  while (!signal.aborted) {
    const start_ms = performance.now();
    let retryMax_ms = RETRY_MAX_MS;
    let listener: NetlinkListener | null = null;
    try {
      listener = new NetlinkListener(protocol, groups);
      onGap();
      for await (const chunk of listener.chunks(signal)) take(parseMessages(chunk));
    } catch (error) {
      if (isLoss(error)) retryMax_ms = LOSS_RETRY_MAX_MS;
      if (performance.now() - start_ms > QUIET_MS) told = "";
      const text = isLoss(error)
        ? "more happened in the kernel than could be followed; reading it all"
        : `cannot follow the kernel: ${errorText(error)}`;
      if (text !== told && !isUnsupported(error)) log.warning`${text}`;
      told = text;
    } finally {
      listener?.close();
    }
    if (performance.now() - start_ms > QUIET_MS) backoff.reset();
    await pause(Math.min(backoff.next_ms(), retryMax_ms), signal);
  }
}
