// What the address says: which part of Airflow the page is a tab of, and which view of it is shown.
import type { Ids } from "./model.ts";
import { HOLD_NAMES, OUTCOME_NAMES, PHASE_NAMES, VERDICT_NAMES } from "./words.ts";

/** Filters that the server knows, each a list; the names are those of its parameters. */
export const FILTERS = ["provider", "phase", "outcome", "verdict", "holds", "dag_id", "task_id"] as const;
export type Filter = (typeof FILTERS)[number];

export const SORTS = [
  "provider", "run_id", "dag_id", "task_id", "status", "progress", "spend", "began_at", "holds", "looked_at",
] as const;
export type Sort = (typeof SORTS)[number];

export const PAGE_SIZES = [25, 50, 100] as const;
export const DAYS = [7, 30, 90] as const;
export const FIRST_SORT = "-began_at";

/** What the tab of a DAG, a run or a task narrows the page to. */
export interface Scope {
  dag_id?: string;
  dag_run_id?: string;
  task_id?: string;
  map_index?: number;
}

export interface ListView {
  page: "list";
  q: string;
  open: "" | "true" | "false";
  filters: Record<Filter, string[]>;
  sort: string;
  limit: number;
  offset: number;
}

export interface RunView {
  page: "run";
  ids: Ids;
  q: string;
  outcome: string[];
  offset: number;
}

export interface ChartsView {
  page: "charts";
  days: number;
  provider: string[];
  dag_id: string[];
  task_id: string[];
}

export type View = ListView | RunView | ChartsView;

/** What the server takes for these filters; a link with another word would be refused. */
const ALLOWED: Partial<Record<Filter, string[]>> = {
  phase: PHASE_NAMES, outcome: OUTCOME_NAMES, verdict: VERDICT_NAMES, holds: HOLD_NAMES,
};

/** The list with other values of a filter. A run has a phase or an outcome: of the two, one filter is set at a time. */
export function filtered(view: ListView, name: Filter, chosen: string[]): ListView {
  const filters = { ...view.filters, [name]: chosen };
  if (chosen.length > 0 && name === "phase") filters.outcome = [];
  if (chosen.length > 0 && name === "outcome") filters.phase = [];
  return { ...view, filters, offset: 0 };
}

type Pair = [string, string];

/**
 * The pairs of a query. A plus stays a plus: Airflow 3.1 and 3.2 put a run's id into the address as it is, and
 * `manual__2026-11-27T10:00:00+00:00` holds one. What cannot be decoded is taken as it stands.
 */
export function pairsOf(query: string): Pair[] {
  return query
    .replace(/^[?#]/, "")
    .split("&")
    .filter((part) => part !== "")
    .map((part): Pair => {
      const at = part.indexOf("=");
      return at < 0 ? [decoded(part), ""] : [decoded(part.slice(0, at)), decoded(part.slice(at + 1))];
    });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const queryOf = (pairs: Pair[]): string =>
  pairs.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join("&");

/**
 * The scope that a query names, or the hash that a tab begins with. The placeholders that Airflow left in place, such as
 * `{MAP_INDEX}` of a task that is not mapped, say nothing.
 */
export function scopeOf(search: string, hash: string): Scope {
  const begins = hash.startsWith("#/") ? "" : hash;
  const given = new Map([...pairsOf(search), ...pairsOf(begins)].filter(([, value]) => value !== "" && !/^\{[A-Z_]+\}$/.test(value)));
  const scope: Scope = {};
  for (const name of ["dag_id", "dag_run_id", "task_id"] as const) {
    const value = given.get(name);
    if (value !== undefined) scope[name] = value;
  }
  const index = given.get("map_index");
  if (index !== undefined && /^-?\d+$/.test(index)) scope.map_index = Number(index);
  return scope;
}

export function queryOfScope(scope: Scope): string {
  const pairs = Object.entries(scope).map(([name, value]): Pair => [name, String(value)]);
  return pairs.length === 0 ? "" : `?${queryOf(pairs)}`;
}

/** The one task instance that the page is a tab of, or null; without a map index the list decides. */
export function idsOf(scope: Scope): Ids | null {
  const { dag_id, dag_run_id, task_id, map_index } = scope;
  if (dag_id === undefined || dag_run_id === undefined || task_id === undefined || map_index === undefined) return null;
  return { dag_id, dag_run_id, task_id, map_index };
}

export function emptyList(): ListView {
  const filters = Object.fromEntries(FILTERS.map((name) => [name, []])) as unknown as Record<Filter, string[]>;
  return { page: "list", q: "", open: "", filters, sort: FIRST_SORT, limit: 50, offset: 0 };
}

const allOf = (pairs: Pair[], name: string): string[] => [
  ...new Set(pairs.filter(([key, value]) => key === name && value !== "").map(([, value]) => value)),
];
const firstOf = (pairs: Pair[], name: string): string => pairs.find(([key]) => key === name)?.[1] ?? "";

const LONGEST_SEARCH = 200;
const searched = (pairs: Pair[]): string => firstOf(pairs, "q").slice(0, LONGEST_SEARCH);

const LARGEST_OFFSET = 1_000_000;
const wholeNumber = (text: string, otherwise: number): number =>
  /^\d{1,9}$/.test(text) ? Math.min(Number(text), LARGEST_OFFSET) : otherwise;

function oneOf(value: number, allowed: readonly number[], otherwise: number): number {
  return allowed.includes(value) ? value : otherwise;
}

/** The view that a hash names; what it does not name has its usual value. */
export function viewOf(hash: string): View {
  const [path = "", query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const pairs = pairsOf(query);
  if (path === "/run") {
    const ids = {
      dag_id: firstOf(pairs, "dag_id"),
      dag_run_id: firstOf(pairs, "dag_run_id"),
      task_id: firstOf(pairs, "task_id"),
      map_index: Number.parseInt(firstOf(pairs, "map_index"), 10),
    };
    if (Number.isNaN(ids.map_index)) ids.map_index = -1;
    const offset = wholeNumber(firstOf(pairs, "offset"), 0);
    const outcome = allOf(pairs, "outcome").filter((value) => OUTCOME_NAMES.includes(value));
    return { page: "run", ids, q: searched(pairs), outcome, offset };
  }
  if (path === "/charts") {
    const lists = { provider: allOf(pairs, "provider"), dag_id: allOf(pairs, "dag_id"), task_id: allOf(pairs, "task_id") };
    return { page: "charts", days: oneOf(wholeNumber(firstOf(pairs, "days"), 30), DAYS, 30), ...lists };
  }
  const view = emptyList();
  view.q = searched(pairs);
  const open = firstOf(pairs, "open");
  view.open = open === "true" || open === "false" ? open : "";
  for (const name of FILTERS) {
    const allowed = ALLOWED[name];
    view.filters[name] = allOf(pairs, name).filter((value) => allowed?.includes(value) ?? true);
  }
  const sort = firstOf(pairs, "sort");
  if ((SORTS as readonly string[]).includes(sort.replace(/^-/, ""))) view.sort = sort;
  view.limit = oneOf(wholeNumber(firstOf(pairs, "limit"), 50), PAGE_SIZES, 50);
  view.offset = wholeNumber(firstOf(pairs, "offset"), 0);
  return view;
}

const pairsOfIds = (ids: Ids): Pair[] => [
  ["dag_id", ids.dag_id], ["dag_run_id", ids.dag_run_id], ["task_id", ids.task_id], ["map_index", String(ids.map_index)],
];

function pairsOfView(view: View): Pair[] {
  if (view.page === "run") {
    const pairs = pairsOfIds(view.ids);
    if (view.q !== "") pairs.push(["q", view.q]);
    for (const value of view.outcome) pairs.push(["outcome", value]);
    if (view.offset > 0) pairs.push(["offset", String(view.offset)]);
    return pairs;
  }
  if (view.page === "charts") {
    const pairs: Pair[] = view.days === 30 ? [] : [["days", String(view.days)]];
    for (const name of ["provider", "dag_id", "task_id"] as const) {
      for (const value of view[name]) pairs.push([name, value]);
    }
    return pairs;
  }
  const pairs: Pair[] = view.q === "" ? [] : [["q", view.q]];
  if (view.open !== "") pairs.push(["open", view.open]);
  for (const name of FILTERS) for (const value of view.filters[name]) pairs.push([name, value]);
  if (view.sort !== FIRST_SORT) pairs.push(["sort", view.sort]);
  if (view.limit !== 50) pairs.push(["limit", String(view.limit)]);
  if (view.offset > 0) pairs.push(["offset", String(view.offset)]);
  return pairs;
}

const PATHS = { list: "/", run: "/run", charts: "/charts" } as const;

/** The hash of a view; the same view always has the same one, and `viewOf` reads it back. */
export function hashOf(view: View): string {
  const query = queryOf(pairsOfView(view));
  return `#${PATHS[view.page]}${query === "" ? "" : `?${query}`}`;
}

/** What the server is asked for a list: the view, narrowed to the tab's part of Airflow. */
export function listQuery(view: ListView, scope: Scope): string {
  const pairs: Pair[] = [["limit", String(view.limit)], ["offset", String(view.offset)], ["sort", view.sort]];
  if (view.q !== "") pairs.push(["q", view.q]);
  if (view.open !== "") pairs.push(["open", view.open]);
  for (const name of FILTERS) {
    const fixed = name === "dag_id" || name === "task_id" ? scope[name] : undefined;
    for (const value of fixed === undefined ? view.filters[name] : [fixed]) pairs.push([name, value]);
  }
  if (scope.dag_run_id !== undefined) pairs.push(["dag_run_id", scope.dag_run_id]);
  if (scope.map_index !== undefined) pairs.push(["map_index", String(scope.map_index)]);
  return queryOf(pairs);
}

export const idsQuery = (ids: Ids): string => queryOf(pairsOfIds(ids));

export function rowsQuery(view: RunView, limit: number): string {
  const pairs = pairsOfIds(view.ids);
  pairs.push(["limit", String(limit)], ["offset", String(view.offset)]);
  if (view.q !== "") pairs.push(["q", view.q]);
  for (const value of view.outcome) pairs.push(["outcome", value]);
  return queryOf(pairs);
}

export function chartsQuery(view: ChartsView, scope: Scope): string {
  const pairs: Pair[] = [["days", String(view.days)]];
  for (const value of view.provider) pairs.push(["provider", value]);
  for (const name of ["dag_id", "task_id"] as const) {
    const fixed = scope[name];
    for (const value of fixed === undefined ? view[name] : [fixed]) pairs.push([name, value]);
  }
  return queryOf(pairs);
}
