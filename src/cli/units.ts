/** Numbers for people: sizes, durations, times. */

const SIZE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** A size in bytes with a binary unit, such as `1.4 MiB`; three digits at least are exact. */
export function formatBytes(size_bytes: number): string {
  let [value, unit] = [size_bytes, 0];
  // 1023.95 would be written as 1024.0.
  while (value >= 1023.95 && unit < SIZE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${SIZE_UNITS[unit]}`;
}

/** A number of things, such as `1 packet` or `2 packets`. */
export function formatCount(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** A duration in ms as its two largest units, such as `23 h 53 min`; never negative. */
export function formatDuration(duration_ms: number): string {
  const seconds = Math.floor(Math.max(0, duration_ms) / 1000);
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  const pair = (large: number, largeUnit: string, small: number, smallUnit: string) =>
    small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
  if (days > 0) return pair(days, "d", hours % 24, "h");
  if (hours > 0) return pair(hours, "h", minutes % 60, "min");
  if (minutes > 0) return pair(minutes, "min", seconds % 60, "s");
  return `${seconds} s`;
}

/** How long ago a time in ms was, such as `3 s ago`; `never` for null. */
export function formatAgo(time_ms: number | null, now_ms: number): string {
  return time_ms === null ? "never" : `${formatDuration(now_ms - time_ms)} ago`;
}

/** A time in ms since 1970 in UTC, such as `2026-01-02 03:04:05Z`. */
export function formatTime(time_ms: number): string {
  return `${new Date(time_ms).toISOString().slice(0, 19).replace("T", " ")}Z`;
}
