// What is drawn, worked out of what the server counted: a series for each provider, with a place for every day. Pure.
import type { Charts, Day } from "./model.ts";

export interface Series {
  provider: string;
  runs: number;
  /** One place for each day, null where nothing ended. */
  days: (Day | null)[];
}

/** The days up to and with the day of `now`, in UTC, as the server counts them. */
export function daysUntil(now: Date, count: number): string[] {
  const last = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate());
  return Array.from({ length: count }, (_, index) =>
    new Date(last - (count - 1 - index) * 86_400_000).toISOString().slice(0, 10));
}

/** The providers by how many runs of theirs ended. */
export function seriesOf(charts: Charts, days: string[]): Series[] {
  const places = new Map(days.map((day, index) => [day, index]));
  const found = new Map<string, Series>();
  for (const day of charts.days) {
    const place = places.get(day.day);
    if (place === undefined) continue;
    const series = found.get(day.provider) ?? { provider: day.provider, runs: 0, days: days.map(() => null) };
    series.days[place] = day;
    series.runs += day.runs ?? 0;
    found.set(day.provider, series);
  }
  return [...found.values()].sort((one, other) => other.runs - one.runs || one.provider.localeCompare(other.provider));
}

/** The units in which a provider's runs spent something. */
export const unitsOf = (series: Series): string[] => [
  ...new Set(series.days.flatMap((day) => Object.keys(day?.spend ?? {}))),
].sort();

/** The next number above that a scale can end at, so that its parts are round: 1, 2, 4 or 5 times a power of ten. */
export function niceTop(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 4, 5, 10].find((each) => value <= each * power * (1 + 1e-9)) ?? 10;
  return step * power;
}

/** The same for a count, so that its half is a whole number. */
export const niceCount = (value: number): number => {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [2, 4, 6, 8, 10].map((step) => step * power).find((top) => top >= value) ?? 10 * power;
};

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;
const ROUND_SECONDS = [
  1, 2, 4, 10, 20, 30, MINUTE, 2 * MINUTE, 4 * MINUTE, 10 * MINUTE, 20 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR,
  8 * HOUR, 12 * HOUR, DAY, 2 * DAY, 4 * DAY, 8 * DAY, 14 * DAY, 30 * DAY,
];

/** The same for a duration, in s. */
export const niceSeconds = (value: number): number =>
  ROUND_SECONDS.find((each) => value <= each) ?? niceTop(value / DAY) * DAY;
