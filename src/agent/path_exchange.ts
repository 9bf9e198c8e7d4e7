/** Sends probes through the tunnels and listens for their answers and for routers' messages. */
import { IcmpListener } from "../../ffi/icmp_listener.ts";
import { libc } from "../../ffi/libc.ts";
import { pathMtu } from "../../ffi/path_mtu.ts";
import { sockaddrOf } from "../../ffi/socket_address.ts";
import type { ForwardingEntry } from "../backend/backend.ts";
import {
  buildProbe,
  ICMP_TYPES,
  readAnswer,
  readTooBig,
  TOKEN_BYTES,
  tokenText,
  type TooBig,
} from "../dataplane/path_probe.ts";
import { errorText } from "../errors.ts";
import { logger } from "../log.ts";
import type { Family } from "../net/ip.ts";
import { pause } from "../retry.ts";
import type { ProbedPlane } from "./path_prober.ts";

/** How often to look for answers, and for how long. */
const LOOK_MS = 5;
const ANSWER_MAX_MS = 500;
/** How many times as long as for the first answer to wait for the others, and how long at least. */
const PATIENCE = 4;
const PATIENCE_MIN_MS = 80;
/** Between two reads of routers' messages: a flood of them costs little. */
const READ_PAUSE_MS = 20;
const RETRY_MS = 5_000;

/**
 * Sends one probe of each size to a peer, the longest first. Returns the sizes that were answered:
 * as soon as the longest is, or else when the others have had their time.
 */
export async function exchangeProbes(
  plane: ProbedPlane | null,
  peer: ForwardingEntry,
  sizes_bytes: readonly number[],
): Promise<ReadonlySet<number>> {
  const answered = new Set<number>();
  const { family } = peer.subnet;
  const overlay = plane?.overlay(family) ?? null;
  if (overlay === null) return answered;
  const listener = new IcmpListener(family, [ICMP_TYPES[family].reply]);
  try {
    const { name } = sockaddrOf(peer.address.toBytes(), peer.port);
    const sizes = new Map<string, number>();
    for (const size_bytes of sizes_bytes) {
      const token = crypto.getRandomValues(new Uint8Array(TOKEN_BYTES));
      const { encapsulation, subnet, queues } = overlay;
      const from = subnet.address;
      const bytes = buildProbe({ encapsulation, from, to: peer, size_bytes, token });
      sizes.set(tokenText(token), size_bytes);
      // A probe that the kernel refuses counts as one that was not answered.
      libc.sendto(queues[0]!.send_fd, bytes, bytes.length, 0, name, name.length);
    }
    const start_ms = performance.now();
    let end_ms = start_ms + ANSWER_MAX_MS;
    while (performance.now() < end_ms && !answered.has(sizes_bytes[0]!)) {
      await new Promise<void>((resolve) => setTimeout(resolve, LOOK_MS));
      for (let next = listener.receiveNow(); next !== null; next = listener.receiveNow()) {
        const size = sizes.get(readAnswer(next, family) ?? "");
        if (size === undefined) continue;
        answered.add(size);
        const took_ms = performance.now() - start_ms;
        end_ms = Math.min(
          end_ms,
          start_ms + took_ms + Math.max(PATIENCE_MIN_MS, PATIENCE * took_ms),
        );
      }
    }
    return answered;
  } finally {
    listener.close();
  }
}

/** Bytes of an outer packet that the kernel assumes for the path to a peer; or -errno. */
export function assumedByKernel({ address, port }: ForwardingEntry): number {
  return pathMtu(sockaddrOf(address.toBytes(), port).name);
}

/** Calls `onTooBig` with what routers say of datagrams to `port`, until the signal is aborted. */
export async function followTooBig(
  family: Family,
  port: number,
  onTooBig: (message: TooBig) => void,
  signal: AbortSignal,
): Promise<void> {
  const log = logger("data-path");
  while (!signal.aborted) {
    let listener: IcmpListener | null = null;
    try {
      listener = new IcmpListener(family, [ICMP_TYPES[family].tooBig]);
      for await (const chunk of listener.chunks(signal)) {
        // Of several at once the first is enough: what is still true is said again.
        const message = readTooBig(chunk, family);
        if (message !== null && message.port === port) onTooBig(message);
        await pause(READ_PAUSE_MS, signal);
      }
    } catch (error) {
      log.debug`cannot listen for ICMP messages: ${errorText(error)}`;
    } finally {
      listener?.close();
    }
    await pause(RETRY_MS, signal);
  }
}
