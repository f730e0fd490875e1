// The words of the page, and the sign beside each: no state is told by its colour alone.

export interface Word {
  label: string;
  /** A class of app.css. */
  tone: "good" | "warn" | "bad" | "busy" | "still" | "off";
  sign: string;
}

const PHASES: Record<string, Word> = {
  queued: { label: "Queued", tone: "off", sign: "\u25cb" },
  running: { label: "Running", tone: "busy", sign: "\u25b6" },
  paused: { label: "Paused", tone: "still", sign: "\u2016" },
  waiting: { label: "Waiting", tone: "still", sign: "\u29d6" },
  stopping: { label: "Stopping", tone: "warn", sign: "\u25a0" },
};

const OUTCOMES: Record<string, Word> = {
  succeeded: { label: "Succeeded", tone: "good", sign: "\u2713" },
  degraded: { label: "Degraded", tone: "warn", sign: "\u25d1" },
  exhausted: { label: "Exhausted", tone: "warn", sign: "\u2298" },
  failed: { label: "Failed", tone: "bad", sign: "\u2715" },
  cancelled: { label: "Cancelled", tone: "off", sign: "\u25a1" },
  timed_out: { label: "Timed out", tone: "bad", sign: "\u231b\ufe0e" },
};

export const PHASE_NAMES = Object.keys(PHASES);
export const OUTCOME_NAMES = Object.keys(OUTCOMES);
export const VERDICT_NAMES = ["succeed", "warn", "skip", "fail"];
export const HOLD_NAMES = ["paused", "waiting", "turn", "rate_limit", "key"];

const UNKNOWN: Word = { label: "Unknown", tone: "off", sign: "?" };

const ERROR: Word = { label: "Ended in an error", tone: "bad", sign: "!" };
const NO_RUN_YET: Word = { label: "No run yet", tone: "off", sign: "\u2013" };

interface Standing {
  run_id?: unknown;
  phase?: string | null;
  outcome?: string | null;
  error?: string | null;
  counts?: unknown;
}

/** What a row is at: its outcome, an error that ended the wait, or its phase. */
export function wordOf(row: Standing): Word {
  if (row.outcome) return OUTCOMES[row.outcome] ?? { ...UNKNOWN, label: row.outcome };
  if (row.error) return ERROR;
  if (row.phase) return PHASES[row.phase] ?? { ...UNKNOWN, label: row.phase };
  return row.run_id || row.counts ? UNKNOWN : NO_RUN_YET;
}

const HOLDS: Record<string, string> = {
  paused: "Somebody to resume it",
  waiting: "An outside event",
  turn: "Its turn",
  rate_limit: "The rate limit",
  key: "A key that works",
};

const VERDICTS: Record<string, string> = {
  succeed: "Succeed",
  warn: "Succeed with a warning",
  skip: "Skip",
  fail: "Fail",
};

const CLOCKS: Record<string, string> = {
  timeout: "the timeout of the wait",
  execution_timeout: "the execution timeout of the task",
  max_paused: "the longest time that it may be paused",
  max_stalled: "the longest time without progress",
  max_spend: "the most that it may spend",
};

export const holdWord = (name: string): string => HOLDS[name] ?? name;
export const verdictWord = (name: string): string => VERDICTS[name] ?? name;
export const clockWord = (name: string): string => CLOCKS[name] ?? name;
export const phaseWord = (name: string): string => PHASES[name]?.label ?? name;
export const outcomeWord = (name: string): string => OUTCOMES[name]?.label ?? name;

const LABELS: Record<string, string> = {
  usd: "USD",
  cu: "CU",
  id: "ID",
  url: "URL",
};

/** The name of a field in words: `totalCu` and `total_cu` are "Total CU". */
export function fieldWord(name: string): string {
  const words = name
    .replace(/([a-z0-9])([A-Z])/g, "$1 $2")
    .split(/[_\s]+/)
    .filter((word) => word !== "")
    .map((word) => LABELS[word.toLowerCase()] ?? word.toLowerCase());
  const text = words.join(" ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}
