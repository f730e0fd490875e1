// What several views need of the browser: a fresh answer of the server, a clock, the address.
import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import { giveAddressAbove } from "./above.ts";
import { hashOf, viewOf } from "./address.ts";
import type { View } from "./address.ts";
import { ApiError } from "./api.ts";
import { Poller } from "./refresh.ts";
import type { Host, Shown } from "./refresh.ts";

const BROWSER: Host = {
  visible: () => document.visibilityState === "visible",
  setTimer: (run, milliseconds) => window.setTimeout(run, milliseconds),
  clearTimer: (timer) => window.clearTimeout(timer),
  now: () => performance.now(),
};

const retryAfter = (error: unknown): number | null => (error instanceof ApiError ? error.retryAfter : null);
const FINAL = new Set(["signed_out", "forbidden", "missing", "refused"]);
const final = (error: unknown): boolean => error instanceof ApiError && FINAL.has(error.failure);

export interface Fresh<T> extends Shown<T> {
  refresh(): void;
  patch(change: (data: T) => T): void;
}

/** The answer to a request, kept fresh while the page is seen. Another `key` is another request; null asks for nothing. */
export function useFresh<T>(
  key: string | null,
  load: (signal: AbortSignal) => Promise<T>,
  options: { live: boolean; keep: boolean },
): Fresh<T> {
  const [, changed] = useReducer((turn: number) => turn + 1, 0);
  const poller = useMemo(() => new Poller<T>(BROWSER, () => changed(undefined), retryAfter, final), []);
  const newest = useRef(load);
  newest.current = load;
  useEffect(() => {
    if (key === null) poller.stop();
    else poller.show(key, (signal) => newest.current(signal), options.keep);
  }, [key]);
  useEffect(() => poller.pause(!options.live), [options.live]);
  useEffect(() => {
    const seen = (): void => poller.visibilityChanged();
    const online = (): void => poller.refresh();
    document.addEventListener("visibilitychange", seen);
    window.addEventListener("online", online);
    return () => {
      document.removeEventListener("visibilitychange", seen);
      window.removeEventListener("online", online);
      poller.stop();
    };
  }, []);
  return { ...poller.shown, refresh: () => poller.refresh(), patch: (change) => poller.patch(change) };
}

/** Milliseconds of the browser's steady clock, anew every few seconds while the page is seen. */
export function useClock(every = 5000): number {
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => {
    const timer = window.setInterval(() => {
      if (document.visibilityState === "visible") setNow(performance.now());
    }, every);
    return () => window.clearInterval(timer);
  }, [every]);
  return Math.max(now, performance.now());
}

export type Go = (view: View, how?: "push" | "replace") => void;

/** The view that the address names, and a way to another one. */
export function useAddress(): [View, Go] {
  const [view, setView] = useState<View>(() => viewOf(window.location.hash));
  useEffect(() => {
    const read = (): void => {
      setView(viewOf(window.location.hash));
      giveAddressAbove();
    };
    window.addEventListener("hashchange", read);
    window.addEventListener("popstate", read);
    return () => {
      window.removeEventListener("hashchange", read);
      window.removeEventListener("popstate", read);
    };
  }, []);
  const go: Go = (next, how = "push") => {
    const hash = hashOf(next);
    if (how === "push" && hash !== window.location.hash) window.history.pushState(null, "", hash);
    else window.history.replaceState(null, "", hash);
    setView(next);
    giveAddressAbove();
  };
  return [view, go];
}
