/** What the demo measures between containers. */
import { errorText } from "../errors.ts";
import type { Container } from "./container.ts";

const PING_COUNT = 3;

/** Pings from one container to another. */
export interface PingReport {
  readonly from: string;
  readonly to: string;
  readonly sent: number;
  readonly received: number;
  /** Median round trip; null if every ping was lost. */
  readonly median_ms: number | null;
  /** How many were lost that the backend loses by design. */
  readonly lostByDesign: number;
  readonly ok: boolean;
  readonly error: string | null;
}

/** One TCP transfer. */
export interface TransferReport {
  readonly from: string;
  readonly to: string;
  readonly size_bytes: number;
  readonly duration_ms: number;
  readonly rate_mbit_s: number;
  readonly sentSha256: string;
  readonly receivedSha256: string;
  readonly ok: boolean;
  readonly error: string | null;
}

function median(values: readonly number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? null;
}

/** What of these lost requests a backend loses by design: the first to a peer, if any. */
export function countByDesign(lost: readonly number[], losesFirst: boolean): number {
  return losesFirst && lost.includes(1) ? 1 : 0;
}

/** `losesFirst`: whether the backend loses the first packet to a peer, and that is fine. */
export async function measurePing(
  from: Container,
  to: Container,
  losesFirst: boolean,
): Promise<PingReport> {
  const names = { from: from.network.name, to: to.network.name };
  try {
    const { sent, received, times_ms, lost } = await from.ping(to, PING_COUNT);
    const lostByDesign = countByDesign(lost, losesFirst);
    const ok = received + lostByDesign === sent;
    return { ...names, sent, received, median_ms: median(times_ms), lostByDesign, ok, error: null };
  } catch (error) {
    const failed = {
      sent: PING_COUNT,
      received: 0,
      median_ms: null,
      lostByDesign: 0,
      ok: false,
    };
    return { ...names, ...failed, error: errorText(error) };
  }
}

export async function measureTransfer(
  from: Container,
  to: Container,
  size_bytes: number,
): Promise<TransferReport> {
  const names = { from: from.network.name, to: to.network.name };
  try {
    const result = await from.transfer(to, size_bytes);
    const rate_mbit_s = result.size_bytes * 8 / 1000 / result.duration_ms;
    const ok = result.sentSha256 === result.receivedSha256;
    return { ...names, ...result, rate_mbit_s, ok, error: null };
  } catch (error) {
    const failed = { size_bytes, duration_ms: 0, rate_mbit_s: 0, ok: false };
    return {
      ...names,
      ...failed,
      sentSha256: "",
      receivedSha256: "",
      error: errorText(error),
    };
  }
}

/** Every container with every other, both ways. */
export function allPairs<T>(items: readonly T[]): [T, T][] {
  return items.flatMap((from) => items.filter((to) => to !== from).map((to): [T, T] => [from, to]));
}

/** Each with the next around the ring, both ways; with two, that is the one pair. */
export function ringPairs<T>(items: readonly T[]): [T, T][] {
  const links = items.length === 2 ? 1 : items.length;
  return Array.from(
    { length: links },
    (_, i): [T, T] => [items[i]!, items[(i + 1) % items.length]!],
  )
    .flatMap(([a, b]): [T, T][] => [[a, b], [b, a]]);
}
