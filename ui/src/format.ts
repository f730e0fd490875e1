// Numbers, times and durations as people read them.
import { cleanName } from "./text.ts";

const UNITS: [string, number][] = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** The two largest units: `2 h 5 min`. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  const whole = Math.max(0, Math.round(seconds));
  if (whole === 0) return seconds > 0 ? "under 1 s" : "0 s";
  const first = UNITS.findIndex(([, size]) => whole >= size);
  const [unit, size] = UNITS[first] as [string, number];
  const next = UNITS[first + 1];
  const count = Math.floor(whole / size);
  const rest = next === undefined ? 0 : Math.floor((whole % size) / next[1]);
  return rest === 0 || next === undefined ? `${count} ${unit}` : `${count} ${unit} ${rest} ${next[0]}`;
}

/** How long ago, in one unit. */
export function ago(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  if (seconds < 2) return "just now";
  const [unit, size] = UNITS.find(([, each]) => seconds >= each) as [string, number];
  return `${Math.floor(seconds / size)} ${unit} ago`;
}

/** A number with separators, and no more digits than say something. */
export function number(value: unknown): string {
  const given = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof given !== "number" || !Number.isFinite(given)) return cleanName(value);
  const digits = Number.isInteger(given) || Math.abs(given) >= 100 ? 2 : 4;
  return new Intl.NumberFormat("en", { maximumFractionDigits: digits }).format(given);
}

/** An amount with its unit; dollars always show their cents. */
export function amount(value: number | null | undefined, unit: string | null | undefined): string {
  if (value === null || value === undefined) return "";
  if (unit === "USD" && Number.isFinite(value)) {
    const digits = value !== 0 && Math.abs(value) < 0.01 ? 4 : 2;
    return `$${new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: digits }).format(value)}`;
  }
  return unit ? `${number(value)} ${cleanName(unit, 40)}` : number(value);
}

/** A moment in the reader's own time zone, and in UTC for the title; null for what is no time. */
export function moment(text: string | null | undefined): { local: string; utc: string; iso: string } | null {
  if (!text) return null;
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return null;
  const iso = at.toISOString();
  const local = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" }).format(at);
  return { local, utc: `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`, iso };
}

export const secondsBetween = (from: string | null | undefined, to: string | null | undefined): number | null => {
  if (!from || !to) return null;
  const seconds = (new Date(to).getTime() - new Date(from).getTime()) / 1000;
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
};

/** `1 run`, `2 runs`. */
export const count = (value: number, one: string, many: string): string =>
  `${number(value)} ${value === 1 ? one : many}`;
