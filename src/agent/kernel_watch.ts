/** Follows what the kernel tells of its own accord, for as long as the agent runs. */
import { errnoName } from "../../ffi/errno.ts";
import { NetlinkListener } from "../../ffi/netlink_listener.ts";
import { errorText } from "../errors.ts";
import { logger } from "../log.ts";
import { type NetlinkMessage, parseMessages } from "../netlink/message.ts";
import { Backoff, pause } from "../retry.ts";

const RETRY_FIRST_MS = 50;
const RETRY_MAX_MS = 5_000;
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

function isLoss(error: unknown): boolean {
  const { code, errno } = error as { code?: unknown; errno?: unknown };
  return code === "ENOBUFS" || (typeof errno === "number" && errnoName(errno) === "ENOBUFS");
}

/** Until the signal is aborted. Whatever happens meanwhile, it listens again after a while. */
export async function followKernel(
  { protocol, groups, take, onGap }: KernelWatchOptions,
  signal: AbortSignal,
): Promise<void> {
  const log = logger("kernel");
  const backoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
  while (!signal.aborted) {
    const start_ms = performance.now();
    let listener: NetlinkListener | null = null;
    try {
      listener = new NetlinkListener(protocol, groups);
      onGap();
      for await (const chunk of listener.chunks(signal)) take(parseMessages(chunk));
    } catch (error) {
      if (isLoss(error)) {
        log.info`more happened in the kernel than could be followed; reading it all`;
      } else log.warning`cannot follow the kernel: ${errorText(error)}`;
    } finally {
      listener?.close();
    }
    if (performance.now() - start_ms > QUIET_MS) backoff.reset();
    await pause(backoff.next_ms(), signal);
  }
}
