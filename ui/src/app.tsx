// The whole page: its head, its views, and what they share.
import { Component } from "preact";
import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Told } from "./actions.tsx";
import { emptyList, hashOf, idsOf, listQuery } from "./address.ts";
import type { ChartsView, ListView, Scope } from "./address.ts";
import { fetchFacets, fetchRuns } from "./api.ts";
import { ChartsPage } from "./charts.tsx";
import { useAddress, useFresh } from "./hooks.ts";
import { List } from "./list.tsx";
import type { Facets, Ids } from "./model.ts";
import { Mark, Name } from "./pieces.tsx";
import { Run } from "./run.tsx";
import { titlesOf } from "./shell.ts";
import type { Shell } from "./shell.ts";

const NO_FACETS: Facets = { providers: [], dags: [], tasks: [] };
const FIRST_CHARTS: ChartsView = { page: "charts", days: 30, provider: [], dag_id: [], task_id: [] };

export function App({ scope }: { scope: Scope }) {
  const [view, go] = useAddress();
  const [live, setLive] = useState(true);
  const [told, tell] = useState<Told | null>(null);
  const [said, setSaid] = useState("");
  const lastList = useRef<ListView>(emptyList());
  if (view.page === "list") lastList.current = view;
  const facets = useFresh("facets", fetchFacets, { live: false, keep: true }).data ?? NO_FACETS;
  const only = useOnly(scope);
  useEffect(() => {
    if (view.page !== "run") document.title = view.page === "charts" ? "Charts \u00b7 External runs" : "External runs";
  }, [view.page]);
  // What was told of one view is no news in another.
  useEffect(() => tell(null), [hashOf(view)]);
  const shell: Shell = {
    scope, facets, live, go, tell,
    list: lastList.current,
    // The same text twice must be another text, to be read out again.
    announce: (text) => setSaid((before) => (before === text ? `${text}\u00a0` : text)),
    titleOf: useMemo(() => titlesOf(facets), [facets]),
  };
  const single = view.page === "list" && window.location.hash.replace(/^#\/?$/, "") === "" ? only : null;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>Skip to the content</a>
      <header class="top">
        <h1>External runs{scope.dag_id === undefined ? null : <span class="quiet"> of <Name text={scope.task_id ?? scope.dag_run_id ?? scope.dag_id} limit={100} /></span>}</h1>
        <nav aria-label="Views">
          <a href={hashOf(shell.list)} {...(view.page === "charts" ? {} : { "aria-current": view.page === "list" ? "page" : "true" })}>Runs</a>
          <a href={hashOf(FIRST_CHARTS)} {...(view.page === "charts" ? { "aria-current": "page" } : {})}>Charts</a>
        </nav>
        {view.page === "charts" ? null : (
          <button type="button" class="live" aria-pressed={!live} onClick={() => setLive(!live)}>
            <Mark sign="bars" /> Pause updates
          </button>
        )}
      </header>
      <main id="main" tabIndex={-1}>
        {told === null ? null : (
          <div class={`message ${told.tone}`} role={told.tone === "bad" ? "alert" : "status"}>
            <Mark sign={told.tone === "bad" ? "alert" : "check"} />
            <p>{told.text}</p>
            <button type="button" onClick={() => { tell(null); document.getElementById("main")?.focus(); }}>Close<span class="only-read"> this message</span></button>
          </div>
        )}
        <Safe key={view.page}>
          {single !== null ? <Run view={{ page: "run", ids: single, q: "", outcome: [], offset: 0 }} shell={shell} tab />
            : view.page === "list" ? <List view={view} shell={shell} />
            : view.page === "run" ? <Run key={JSON.stringify(view.ids)} view={view} shell={shell} tab={false} />
            : <ChartsPage view={view} shell={shell} />}
        </Safe>
      </main>
      <div class="only-read" role="status" aria-live="polite">{said}</div>
    </>
  );
}

/** The one run that the tab of a task instance is about, where there is just one. */
function useOnly(scope: Scope): Ids | null {
  const named = scope.dag_run_id !== undefined && scope.task_id !== undefined && scope.dag_id !== undefined;
  const known = idsOf(scope);
  const list = emptyList();
  const found = useFresh(named && known === null ? listQuery(list, scope) : null, (signal) => fetchRuns(list, scope, signal), { live: false, keep: true });
  if (known !== null) return known;
  const [first] = found.data?.runs ?? [];
  return found.data?.total === 1 && first !== undefined ? first : null;
}

/** An error in drawing must not leave an empty page. */
class Safe extends Component<{ children: ComponentChildren }, { failed: boolean }> {
  override state = { failed: false };

  static override getDerivedStateFromError(): { failed: boolean } {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    return (
      <div class="message bad" role="alert">
        <p>This cannot be shown: the page has an error. Reload it; if it stays, please report it to the maintainers of runops.</p>
      </div>
    );
  }
}
