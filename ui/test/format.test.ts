// Numbers, times and durations.
import assert from "node:assert/strict";
import test from "node:test";
import { ago, amount, count, duration, moment, number, secondsBetween } from "../src/format.ts";
import { daysUntil, niceCount, niceSeconds, niceTop, seriesOf, unitsOf } from "../src/figures.ts";
import { isLeft, isOver } from "../src/model.ts";
import { fieldWord, wordOf, wordOfSetRow } from "../src/words.ts";

test("durations have their two largest units", () => {
  const known: [number, string][] = [[0, "0 s"], [0.3, "under 1 s"], [59.6, "1 min"], [61, "1 min 1 s"], [3600, "1 h"], [7500, "2 h 5 min"], [90_061, "1 d 1 h"], [864_000, "10 d"], [-5, "0 s"]];
  for (const [seconds, text] of known) assert.equal(duration(seconds), text);
  for (const nothing of [null, undefined, Number.NaN, Infinity]) assert.equal(duration(nothing), "");
});

test("how long ago has one unit", () => {
  assert.deepEqual([0, 2, 59, 60, 7199, 200_000].map(ago), ["just now", "2 s ago", "59 s ago", "1 min ago", "1 h ago", "2 d ago"]);
});

test("amounts have their unit, and small ones their digits", () => {
  assert.equal(amount(1234.5, "USD"), "$1,234.50");
  assert.equal(amount(0.0042, "USD"), "$0.0042");
  assert.equal(amount(0, "USD"), "$0.00");
  assert.equal(amount(12_345, "characters"), "12,345 characters");
  assert.equal(amount(0.123456, "CU"), "0.1235 CU");
  assert.equal(amount(null, "USD"), "");
  assert.equal(number("12.50"), "12.5");
  assert.equal(number("no number"), "no number");
  assert.equal(count(1, "run", "runs"), "1 run");
});

test("times say UTC too, and what is no time is none", () => {
  assert.equal(moment("2026-11-27T22:52:16.123Z")?.utc, "2026-11-27 22:52:16 UTC");
  assert.equal(moment("soon"), null);
  assert.equal(moment(null), null);
  assert.equal(secondsBetween("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"), 60);
  assert.equal(secondsBetween("2026-01-01T00:01:00Z", "2026-01-01T00:00:00Z"), null);
});

test("a row is at its outcome, its error, its phase, or has no run yet", () => {
  assert.equal(wordOf({ outcome: "failed", phase: null }).label, "Failed");
  assert.equal(wordOf({ error: "PollingError" }).label, "Ended in an error");
  assert.equal(wordOf({ phase: "paused" }).label, "Paused");
  assert.equal(wordOf({}).label, "No run yet");
  assert.equal(wordOf({ phase: "dreaming" }).label, "dreaming");
  assert.equal(wordOfSetRow({ run_id: "r" }, "awaiting turn").label, "Waits for its turn");
  assert.equal(wordOfSetRow({ run_id: "r", outcome: "failed" }, "ended").label, "Failed");
  assert.equal(wordOfSetRow({ error: "PollingError" }, null).label, "Ended in an error");
  const ids = { dag_id: "d", dag_run_id: "r", task_id: "t", map_index: -1 };
  assert.deepEqual([isLeft({ ...ids, phase: "running", task_state: "failed" }), isOver({ ...ids, phase: "running", task_state: "deferred" })], [true, false]);
  assert.deepEqual([isLeft({ ...ids, outcome: "failed", task_state: "failed" }), isOver({ ...ids, ended_at: "2026-01-01T00:00:00Z" })], [false, true]);
  assert.equal(fieldWord("totalCu"), "Total CU");
  assert.equal(fieldWord("findings_count"), "Findings count");
});

test("a series has a place for each day, and scales end at round numbers", () => {
  const days = daysUntil(new Date("2026-03-01T12:00:00Z"), 3);
  assert.deepEqual(days, ["2026-02-27", "2026-02-28", "2026-03-01"]);
  const series = seriesOf({ days: [
    { day: "2026-02-28", provider: "nyx", runs: 2, spend: { USD: 1 } }, { day: "2026-03-01", provider: "b3os", runs: 9 }, { day: "2025-01-01", provider: "old", runs: 99 },
  ] }, days);
  assert.deepEqual(series.map((each) => [each.provider, each.days.map((day) => day?.runs ?? null)]), [["b3os", [null, null, 9]], ["nyx", [null, 2, null]]]);
  assert.deepEqual(unitsOf(series[1]!), ["USD"]);
  assert.deepEqual([0, 1, 3, 7, 11, 4000, 4001].map(niceTop), [1, 1, 4, 10, 20, 4000, 5000]);
  assert.deepEqual([1, 2, 3, 5, 11, 60, 61].map(niceCount), [2, 2, 4, 6, 20, 60, 80]);
  assert.deepEqual([50, 3700, 10 * 86_400].map(niceSeconds), [60, 7200, 14 * 86_400]);
});
