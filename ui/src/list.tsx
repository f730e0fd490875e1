// The table of all runs, with its filters, order and pages.
import { useEffect, useRef, useState } from "preact/hooks";
import { Actions } from "./actions.tsx";
import { emptyList, filtered, hashOf, listQuery, PAGE_SIZES } from "./address.ts";
import type { Filter, ListView, Sort } from "./address.ts";
import { fetchRuns, root } from "./api.ts";
import { Choice } from "./choice.tsx";
import { ago, count, duration, moment } from "./format.ts";
import { useClock, useFresh } from "./hooks.ts";
import { dagHref, taskHref } from "./links.ts";
import { isLeft, isOver, keyOf } from "./model.ts";
import type { Row } from "./model.ts";
import { AirflowLink, Badge, Empty, Failed, Loading, Name, Pager, ProgressBar, Search, ServiceLink, Spend } from "./pieces.tsx";
import { Status } from "./status.tsx";
import type { Shell } from "./shell.ts";
import { cleanName } from "./text.ts";
import { HOLD_NAMES, holdWord, OUTCOME_NAMES, outcomeWord, PHASE_NAMES, phaseWord, VERDICT_NAMES, verdictWord, wordOf } from "./words.ts";

interface Column {
  sort: Sort;
  label: string;
  /** The order that the first press gives. */
  first: "up" | "down";
}

const COLUMNS: Column[] = [
  { sort: "provider", label: "Provider", first: "up" },
  { sort: "run_id", label: "Run", first: "up" },
  { sort: "dag_id", label: "DAG", first: "up" },
  { sort: "task_id", label: "Task", first: "up" },
  { sort: "status", label: "State", first: "up" },
  { sort: "progress", label: "Progress", first: "down" },
  { sort: "spend", label: "Spend", first: "down" },
  { sort: "began_at", label: "Age", first: "down" },
  { sort: "holds", label: "Waits for", first: "up" },
  { sort: "looked_at", label: "Last look", first: "down" },
];

let lastOpened: string | null = null;

export function List({ view, shell }: { view: ListView; shell: Shell }) {
  const query = listQuery(view, shell.scope);
  const fresh = useFresh(query, (signal) => fetchRuns(view, shell.scope, signal), { live: shell.live, keep: true });
  const { data } = fresh;
  const told = useRef("");
  const table = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (data === null || fresh.key !== query || told.current === query) return;
    // The first answer is read out by nobody's wish.
    if (told.current !== "") shell.announce(data.total === 0 ? "No run is found." : `${count(data.total, "run", "runs")} found.`);
    told.current = query;
  }, [data, fresh.key, query]);
  useEffect(() => {
    if (data === null || lastOpened === null) return;
    table.current?.querySelector<HTMLElement>(`a[data-key="${CSS.escape(lastOpened)}"]`)?.focus();
    lastOpened = null;
  }, [data]);
  const patch = (row: Row): void =>
    fresh.patch((runs) => ({ ...runs, runs: runs.runs.map((each) => (keyOf(each) === keyOf(row) ? row : each)) }));
  const narrowed = view.q !== "" || view.open !== "" || Object.values(view.filters).some((each) => each.length > 0);
  return (
    <>
      <Filters view={view} shell={shell} narrowed={narrowed} />
      <Status fresh={fresh} live={shell.live} />
      <Failed error={fresh.error} retry={fresh.refresh} old={data !== null} />
      {data === null ? (fresh.error === null ? <Loading what="runs" /> : null) : null}
      {data !== null && data.runs.length === 0 ? <Nothing view={view} shell={shell} narrowed={narrowed} total={data.total} /> : null}
      {data !== null && data.runs.length > 0 ? (
        <div ref={table} class={fresh.busy ? "waits" : ""} aria-busy={fresh.busy}>
          <Table view={view} shell={shell} rows={data.runs} at={fresh.at} patch={patch} />
        </div>
      ) : null}
      {data !== null ? (
        <div class="under">
          <Pager offset={view.offset} limit={view.limit} total={data.total} what={["run", "runs"]}
            go={(offset) => shell.go({ ...view, offset })} />
          {data.total > PAGE_SIZES[0] ? (
            <label class="field">Rows on a page{" "}
              <select value={String(view.limit)} onChange={(event) => shell.go({ ...view, limit: Number(event.currentTarget.value), offset: 0 })}>
                {PAGE_SIZES.map((size) => <option key={size} value={String(size)}>{size}</option>)}
              </select>
            </label>
          ) : null}
        </div>
      ) : null}
    </>
  );
}

function Nothing({ view, shell, narrowed, total }: { view: ListView; shell: Shell; narrowed: boolean; total: number }) {
  if (total > 0) {
    return (
      <Empty title="This page is empty.">
        <button type="button" onClick={() => shell.go({ ...view, offset: 0 })}>Go to the first page</button>
      </Empty>
    );
  }
  if (narrowed) {
    return (
      <Empty title="No run is like this.">
        <button type="button" onClick={() => shell.go({ ...emptyList(), sort: view.sort, limit: view.limit })}>Clear all filters</button>
      </Empty>
    );
  }
  return (
    <Empty title="No external run yet.">
      <p>A run appears here as soon as a task waits for it. You see the runs of those DAGs that you may read.</p>
    </Empty>
  );
}

function Filters({ view, shell, narrowed }: { view: ListView; shell: Shell; narrowed: boolean }) {
  const { facets, scope } = shell;
  const [unfolded, setUnfolded] = useState(false);
  const choose = (name: Filter) => (chosen: string[]): void => shell.go(filtered(view, name, chosen));
  const words = (names: string[], word: (name: string) => string) => names.map((value) => ({ value, label: word(value) }));
  const same = (names: string[]) => words(names, (name) => name);
  const filters: [Filter, string, { value: string; label: string }[]][] = [
    ["provider", "Provider", facets.providers.map((each) => ({ value: each.name, label: each.title || each.name }))],
    ["phase", "Phase", words(PHASE_NAMES, phaseWord)],
    ["outcome", "Outcome", words(OUTCOME_NAMES, outcomeWord)],
    ["verdict", "Verdict", words(VERDICT_NAMES, verdictWord)],
    ["holds", "Waits for", words(HOLD_NAMES, holdWord)],
  ];
  if (scope.dag_id === undefined) filters.push(["dag_id", "DAG", same(facets.dags)]);
  if (scope.task_id === undefined) filters.push(["task_id", "Task", same(facets.tasks)]);
  const chosen = filters.reduce((sum, [name]) => sum + view.filters[name].length, view.open === "" ? 0 : 1);
  return (
    <div class="filters" role="search" aria-label="Runs">
      <Search label="Search runs, DAGs, tasks and reasons" value={view.q} change={(q) => shell.go({ ...view, q, offset: 0 })} />
      <button type="button" class="narrow-only" aria-expanded={unfolded} aria-controls="filters" onClick={() => setUnfolded(!unfolded)}>
        Filters{chosen > 0 ? ` (${chosen})` : ""} and order <span aria-hidden="true" class="arrow">{"\u25be"}</span>
      </button>
      <div id="filters" class={unfolded ? "row" : "row folded"}>
        <label class="field"><span class="only-read">Open or ended</span>
          <select value={view.open} class={view.open === "" ? "" : "chosen"}
            onChange={(event) => shell.go({ ...view, open: event.currentTarget.value as ListView["open"], offset: 0 })}>
            <option value="">Open and ended</option>
            <option value="true">Open</option>
            <option value="false">Ended</option>
          </select>
        </label>
        {filters.map(([name, label, options]) => (
          <Choice key={name} label={label} options={options} chosen={view.filters[name]} change={choose(name)} />
        ))}
        <label class="field narrow-only">Order{" "}
          <select value={view.sort} onChange={(event) => shell.go({ ...view, sort: event.currentTarget.value, offset: 0 })}>
            {COLUMNS.flatMap(({ sort, label }) => ["", "-"].map((sign) => (
              <option key={sign + sort} value={sign + sort}>{label}, {(sign === "-") === turned(sort) ? "up" : "down"}</option>
            )))}
          </select>
        </label>
        {narrowed ? (
          <button type="button" class="plain" onClick={() => shell.go({ ...emptyList(), sort: view.sort, limit: view.limit })}>Clear all filters</button>
        ) : null}
      </div>
    </div>
  );
}

/** Where an age grows as time goes by, the order by age is that of the beginning, turned round. */
const turned = (sort: Sort): boolean => sort === "began_at" || sort === "looked_at";

function directionOf(view: ListView, sort: Sort): "ascending" | "descending" | undefined {
  if (view.sort.replace(/^-/, "") !== sort) return undefined;
  return view.sort.startsWith("-") !== turned(sort) ? "descending" : "ascending";
}

function nextSort(view: ListView, { sort, first }: Column): string {
  const up = turned(sort) ? `-${sort}` : sort;
  const down = turned(sort) ? sort : `-${sort}`;
  const now = directionOf(view, sort);
  if (now === undefined) return first === "up" ? up : down;
  return now === "ascending" ? down : up;
}

interface TableProps {
  view: ListView;
  shell: Shell;
  rows: Row[];
  at: number;
  patch: (row: Row) => void;
}

function Table({ view, shell, rows, at, patch }: TableProps) {
  const since = (useClock() - at) / 1000;
  const acts = rows.some((row) => row.may?.look || row.may?.cancel);
  return (
    // The roles stand here because a narrow screen shows the rows as cards, which would take a table its meaning.
    <table class={acts ? "runs acts" : "runs"} role="table">
      <caption class="only-read">External runs</caption>
      <thead role="rowgroup">
        <tr role="row">
          {COLUMNS.map((column) => {
            const direction = directionOf(view, column.sort);
            return (
              <th key={column.sort} scope="col" role="columnheader" {...(direction === undefined ? {} : { "aria-sort": direction })} class={`c-${column.sort}`}>
                <button type="button" class="sort" onClick={() => shell.go({ ...view, sort: nextSort(view, column), offset: 0 })}>
                  {column.label} <span aria-hidden="true" class="arrow">{direction === undefined ? "\u2195" : direction === "ascending" ? "\u2191" : "\u2193"}</span>
                </button>
              </th>
            );
          })}
          {acts ? <th scope="col" role="columnheader" class="c-actions"><span class="only-read">Actions</span></th> : null}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row) => <Line key={keyOf(row)} row={row} shell={shell} since={since} acts={acts} patch={patch} />)}
      </tbody>
    </table>
  );
}

interface LineProps {
  row: Row;
  shell: Shell;
  since: number;
  acts: boolean;
  patch: (row: Row) => void;
}

function Line({ row, shell, since, acts, patch }: LineProps) {
  const title = shell.titleOf(row.provider);
  const opened = hashOf({ page: "run", ids: row, q: "", outcome: [], offset: 0 });
  const name = row.kind === "set" ? setName(row) : cleanName(row.run_id ?? "", 200) || "No run yet";
  return (
    <tr role="row">
      <td role="cell" data-label="Provider"><Name text={title} limit={60} /></td>
      <td role="cell" data-label="Run" class="two">
        <a href={opened} class="run" data-key={keyOf(row)} onClick={() => { lastOpened = keyOf(row); }}><bdi class="name">{name}</bdi></a>
        <ServiceLink url={row.url} title={title} of={name} />
      </td>
      <td role="cell" data-label="DAG" class="two">
        <AirflowLink href={dagHref(root(), row.dag_id)}><Name text={row.dag_id} /></AirflowLink>
        <span class="quiet"><Name text={row.dag_run_id} /></span>
      </td>
      <td role="cell" data-label="Task" class="two">
        <AirflowLink href={taskHref(root(), row)}><Name text={row.task_id} />{row.map_index >= 0 ? ` [${row.map_index}]` : ""}</AirflowLink>
        {row.task_state ? <span class="quiet">{cleanName(row.task_state, 40).replaceAll("_", " ")}</span> : null}
      </td>
      <td role="cell" data-label="State" class="two"><StateCell row={row} /></td>
      <td role="cell" data-label="Progress"><ProgressBar progress={progressOf(row)} of={name} /></td>
      <td role="cell" data-label="Spend"><Spend row={row} /></td>
      <td role="cell" data-label="Age" class="two"><Age row={row} since={since} /></td>
      <td role="cell" data-label="Waits for" class="two"><Holds row={row} /></td>
      <td role="cell" data-label="Last look"><LastLook row={row} since={since} /></td>
      {acts ? <td role="cell" data-label="Actions"><Actions row={row} title={title} changed={patch} tell={shell.tell} /></td> : null}
    </tr>
  );
}

export function setName(row: Row): string {
  const total = row.counts?.total;
  return typeof total === "number" ? `Set of ${count(total, "run", "runs")}` : "Set of runs";
}

/** A set's progress is how many of its runs have ended. */
export function progressOf(row: Row): Row["progress"] {
  const { counts } = row;
  if (row.progress || !counts || typeof counts.ended !== "number") return row.progress;
  return { done: counts.ended, total: counts.total ?? null, unit: "runs" };
}

function StateCell({ row }: { row: Row }) {
  const state = row.state ?? "";
  const said = state.toLowerCase() !== wordOf(row).label.toLowerCase();
  return (
    <>
      <Badge row={row} />
      {state !== "" && said ? <span class="quiet"><Name text={state} limit={60} /></span> : null}
      {isLeft(row) ? <span class="quiet">as last seen; the task has ended</span> : null}
      {row.verdict ? <span class="quiet">Verdict: {cleanName(verdictWord(row.verdict), 40).toLowerCase()}</span> : null}
    </>
  );
}

export function Age({ row, since }: { row: Row; since: number }) {
  if (typeof row.age_seconds !== "number") return null;
  const age = row.age_seconds + (isOver(row) ? 0 : since);
  const usual = row.usual_seconds;
  const late = typeof usual === "number" && usual > 0 && !isOver(row) && age > usual * 1.5;
  return (
    <>
      <span>{duration(age)}</span>
      {typeof usual === "number" ? (
        <span class={late ? "late" : "quiet"}>{late ? <span aria-hidden="true">{"\u25b2"} </span> : null}{late ? "longer than the usual " : "usually "}{duration(usual)}</span>
      ) : null}
    </>
  );
}

export function Holds({ row }: { row: Row }) {
  if (!row.holds) return null;
  return (
    <>
      <span>{cleanName(holdWord(row.holds), 60)}</span>
      {row.holds_for ? <span class="quiet"><Name text={row.holds_for} limit={120} /></span> : null}
    </>
  );
}

/** How old what is shown is. */
export function LastLook({ row, since }: { row: Row; since: number }) {
  if (typeof row.record_age_seconds !== "number") return null;
  return <span title={moment(row.looked_at)?.utc ?? ""}>{ago(row.record_age_seconds + since)}</span>;
}
