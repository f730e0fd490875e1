// How fresh what is shown is, said quietly.
import { ago } from "./format.ts";
import { useClock } from "./hooks.ts";
import type { Fresh } from "./hooks.ts";

export function Status<T>({ fresh, live }: { fresh: Fresh<T>; live: boolean }) {
  const now = useClock();
  if (fresh.data === null) return null;
  const age = (now - fresh.at) / 1000;
  return (
    <p class="status">
      <span>{live ? "" : "Live updates are paused. "}{age < 15 ? "Up to date" : `As of ${ago(age)}`}</span>
      <button type="button" class="plain" aria-disabled={fresh.busy} onClick={() => { if (!fresh.busy) fresh.refresh(); }}>Refresh</button>
    </p>
  );
}
