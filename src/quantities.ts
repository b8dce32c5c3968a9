/** Quantities as people read them, the same in every command, report and error. */

/** A count with its thousands parted: `1,234,567`. */
export const grouped = (n: number): string => n.toLocaleString("en-US");

/** An amount of memory or of a file, in decimal units as disks have them: `512 bytes`, `3.4 kB`, `12.3 MB`, `24.0 GB`. */
export function byteSize(bytes: number): string {
  if (bytes < 1e3) return `${bytes} bytes`;
  const [unit, name] = bytes < 999_950 ? [1e3, "kB"] : bytes < 999_950_000 ? [1e6, "MB"] : [1e9, "GB"];
  return `${(bytes / unit).toFixed(1)} ${name}`;
}

/** Three digits and an SI prefix before a unit's name: `metric(1.234e9, "FLOP")` is `1.23 GFLOP`. */
export function metric(n: number, unit: string): string {
  const prefixes = ["", "k", "M", "G", "T", "P", "E"];
  // Rounding to three digits first: 999,999 is 1.00 M, not 1000 k.
  const power = Math.min(prefixes.length - 1, Math.floor(Math.log10(Math.max(Number(n.toPrecision(3)), 1)) / 3));
  return `${(n / 1000 ** power).toPrecision(3)} ${prefixes[power]}${unit}`;
}

/** A time in its two largest units: `59s`, `1m01s`, `1h01m`, and over 48 hours `2d01h`. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${String(s % 60).padStart(2, "0")}s`;
  if (s > 48 * 3600) return `${Math.floor(s / 86400)}d${String(Math.floor((s % 86400) / 3600)).padStart(2, "0")}h`;
  return `${Math.floor(s / 3600)}h${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}m`;
}
