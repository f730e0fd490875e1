// The words of the page, and the sign beside each: no state is told by its colour alone.

export interface Word {
  label: string;
  /** A class of app.css. */
  tone: "good" | "warn" | "bad" | "busy" | "still" | "off";
  sign: Sign;
}

const CIRCLE = "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 0 0 0-9z";

/** What is drawn in a square of 12 by 12: fonts lack some signs, a drawing never does. */
export const SIGNS = {
  circle: CIRCLE,
  play: "M3.5 2l6 4-6 4z",
  bars: "M4 2v8M8 2v8",
  hourglass: "M3 1.5h6L3 10.5h6z",
  square: "M2.5 2.5h7v7h-7z",
  check: "M2 6.5l2.8 3L10 3",
  triangle: "M6 1.5l5 9H1z",
  crossed: `${CIRCLE}M3 9l6-6`,
  cross: "M2.5 2.5l7 7M9.5 2.5l-7 7",
  minus: `${CIRCLE}M4 6h4`,
  clock: `${CIRCLE}M6 3.5V6l2 1.3`,
  alert: "M6 1.5v5.5M6 9.6v.6",
  dash: "M2.5 6h7",
  question: "M4 4.2a2 2 0 1 1 2.6 2c-.5.2-.6.6-.6 1.3M6 9.7v.3",
} as const;
export type Sign = keyof typeof SIGNS;

const PHASES: Record<string, Word> = {
  queued: { label: "Queued", tone: "off", sign: "circle" },
  running: { label: "Running", tone: "busy", sign: "play" },
  paused: { label: "Paused", tone: "still", sign: "bars" },
  waiting: { label: "Waiting", tone: "still", sign: "hourglass" },
  stopping: { label: "Stopping", tone: "warn", sign: "square" },
};

const OUTCOMES: Record<string, Word> = {
  succeeded: { label: "Succeeded", tone: "good", sign: "check" },
  degraded: { label: "Degraded", tone: "warn", sign: "triangle" },
  exhausted: { label: "Exhausted", tone: "warn", sign: "crossed" },
  failed: { label: "Failed", tone: "bad", sign: "cross" },
  cancelled: { label: "Cancelled", tone: "off", sign: "minus" },
  timed_out: { label: "Timed out", tone: "bad", sign: "clock" },
};

export const PHASE_NAMES = Object.keys(PHASES);
export const OUTCOME_NAMES = Object.keys(OUTCOMES);
export const VERDICT_NAMES = ["succeed", "warn", "skip", "fail"];
export const HOLD_NAMES = ["paused", "waiting", "turn", "rate_limit", "key"];

const UNKNOWN: Word = { label: "Unknown", tone: "off", sign: "question" };

const ERROR: Word = { label: "Ended in an error", tone: "bad", sign: "alert" };
const NO_RUN_YET: Word = { label: "No run yet", tone: "off", sign: "dash" };

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

/** Where a run of a set stands that has no outcome: the words of the set's own ledger. */
const LEDGER: Record<string, Word> = {
  planned: { label: "Not sent yet", tone: "off", sign: "circle" },
  "awaiting turn": { label: "Waits for its turn", tone: "still", sign: "hourglass" },
  submitting: { label: "Being submitted", tone: "busy", sign: "play" },
  submitted: { label: "Waited for", tone: "busy", sign: "play" },
  attached: { label: "Waited for", tone: "busy", sign: "play" },
  ended: { label: "Ended", tone: "off", sign: "square" },
  refused: { label: "Submit refused", tone: "bad", sign: "cross" },
  unclear: { label: "Submit uncertain", tone: "bad", sign: "alert" },
  unread: { label: "Not readable", tone: "bad", sign: "alert" },
};

/** What a run of a set is at. */
export function wordOfSetRow(row: Standing, state: string | null): Word {
  const known = state === null ? undefined : LEDGER[state];
  return row.outcome || row.phase || known === undefined ? wordOf(row) : known;
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
  timeout: "The timeout of the wait",
  execution_timeout: "The execution timeout of the task",
  max_paused: "The longest time that it may be paused",
  max_stalled: "The longest time without progress",
  max_spend: "The most that it may spend",
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
