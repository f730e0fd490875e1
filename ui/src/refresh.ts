// When the page asks again: only while it is seen, quietly, more rarely after errors, never over itself. Pure; the clock,
// the timer and the request are handed in.

export const EVERY_MS = 10_000;
export const LONGEST_MS = 300_000;

/** Milliseconds until the next request. What the server asks for with Retry-After is kept. */
export function nextDelay(failures: number, retryAfterSeconds: number | null): number {
  const backedOff = Math.min(EVERY_MS * 2 ** Math.min(failures, 10), LONGEST_MS);
  return Math.max(backedOff, (retryAfterSeconds ?? 0) * 1000);
}

export interface Host {
  visible(): boolean;
  setTimer(run: () => void, milliseconds: number): number;
  clearTimer(timer: number): void;
  now(): number;
}

export interface Shown<T> {
  data: T | null;
  /** What the data is the answer to; null without data. */
  key: string | null;
  /** Milliseconds of the host's clock at which the data came. */
  at: number;
  error: unknown;
  /** A request is under way that a person waits for: the first one, or one for another view. */
  busy: boolean;
}

type Load<T> = (signal: AbortSignal) => Promise<T>;

/** Keeps one answer of the server fresh. */
export class Poller<T> {
  shown: Shown<T> = { data: null, key: null, at: 0, error: null, busy: false };
  private load: Load<T> | null = null;
  private key = "";
  private timer: number | null = null;
  private abort: AbortController | null = null;
  private failures = 0;
  private paused = false;
  private due = 0;
  private readonly host: Host;
  private readonly changed: () => void;
  private readonly retryAfter: (error: unknown) => number | null;
  private readonly final: (error: unknown) => boolean;

  constructor(
    host: Host,
    changed: () => void,
    retryAfter: (error: unknown) => number | null,
    final: (error: unknown) => boolean,
  ) {
    this.host = host;
    this.changed = changed;
    this.retryAfter = retryAfter;
    this.final = final;
  }

  /** Ask for something else from now on, at once. */
  show(key: string, load: Load<T>, keep: boolean): void {
    this.load = load;
    this.key = key;
    this.failures = 0;
    const kept = keep ? this.shown : { data: null, key: null, at: 0 };
    this.set({ ...kept, error: null, busy: true });
    this.ask();
  }

  /** A person asks: at once, whatever went before. */
  refresh(): void {
    this.failures = 0;
    this.set({ ...this.shown, busy: true });
    this.ask();
  }

  pause(paused: boolean): void {
    this.paused = paused;
    this.plan(this.due - this.host.now());
  }

  /** The page came into sight, or left it. */
  visibilityChanged(): void {
    this.plan(this.due - this.host.now());
  }

  /** Change what is shown until the next answer comes. */
  patch(change: (data: T) => T): void {
    if (this.shown.data !== null) this.set({ ...this.shown, data: change(this.shown.data) });
  }

  stop(): void {
    this.abort?.abort();
    this.abort = null;
    this.load = null;
    this.clear();
  }

  private ask(): void {
    this.clear();
    this.abort?.abort();
    const { load } = this;
    if (load === null) return;
    const abort = new AbortController();
    this.abort = abort;
    load(abort.signal).then(
      (data) => this.answered(abort, data, null),
      (error: unknown) => this.answered(abort, null, error),
    );
  }

  private answered(abort: AbortController, data: T | null, error: unknown): void {
    if (this.abort !== abort) return;
    this.abort = null;
    if (error === null) {
      this.failures = 0;
      this.set({ data, key: this.key, at: this.host.now(), error: null, busy: false });
    } else {
      this.failures += 1;
      this.set({ ...this.shown, error, busy: false });
    }
    const wait = error !== null && this.final(error) ? LONGEST_MS : nextDelay(this.failures, error === null ? null : this.retryAfter(error));
    this.due = this.host.now() + wait;
    this.plan(wait);
  }

  private plan(milliseconds: number): void {
    this.clear();
    if (this.load === null || this.paused || this.abort !== null || !this.host.visible()) return;
    this.timer = this.host.setTimer(() => {
      this.timer = null;
      this.ask();
    }, Math.max(0, milliseconds));
  }

  private clear(): void {
    if (this.timer !== null) this.host.clearTimer(this.timer);
    this.timer = null;
  }

  private set(shown: Shown<T>): void {
    this.shown = shown;
    this.changed();
  }
}
