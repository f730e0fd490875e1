// The requests to the server, and what each way to fail means to a reader.
import { chartsQuery, idsQuery, listQuery, rowsQuery } from "./address.ts";
import type { ChartsView, ListView, RunView, Scope } from "./address.ts";
import type { Charts, Facets, Ids, Row, Runs, SetRows } from "./model.ts";
import { cleanName } from "./text.ts";

const TIMEOUT_MS = 30_000;
export const SET_PAGE = 50;

export type Failure = "offline" | "signed_out" | "forbidden" | "missing" | "refused" | "busy" | "server";

export class ApiError extends Error {
  readonly failure: Failure;
  readonly retryAfter: number | null;

  constructor(failure: Failure, message: string, retryAfter: number | null = null) {
    super(message);
    this.failure = failure;
    this.retryAfter = retryAfter;
  }
}

const SENTENCES: Record<Failure, string> = {
  offline: "Airflow does not answer. Is this computer online?",
  signed_out: "You are signed out of Airflow. Sign in again in another tab, then refresh.",
  forbidden: "You may not see or do this. Airflow decides who may; ask whoever runs it.",
  missing: "There is no such run, or you may not see its DAG.",
  refused: "Airflow refuses this.",
  busy: "Too many requests for now.",
  server: "Something went wrong in Airflow's API server; its log says what.",
};

/** Which failure an HTTP status is. */
export function failureOf(status: number): Failure {
  if (status === 401) return "signed_out";
  if (status === 403) return "forbidden";
  if (status === 404) return "missing";
  if (status === 429) return "busy";
  return status >= 500 ? "server" : "refused";
}

/** The message that a reader sees; what the server says of a refusal is part of it. */
export function messageOf(failure: Failure, detail: string, retryAfter: number | null): string {
  const said = cleanName(detail, 400);
  if (failure === "busy") {
    return retryAfter === null ? SENTENCES.busy : `${SENTENCES.busy} It can be asked again in ${Math.ceil(retryAfter)} s.`;
  }
  if (said !== "" && failure === "refused") return said;
  return said !== "" && (failure === "forbidden" || failure === "server") ? `${SENTENCES[failure]} (${said})` : SENTENCES[failure];
}

/** Seconds of a Retry-After header, or null. */
export function retryAfterOf(header: string | null, now: number): number | null {
  if (header === null || header.trim() === "") return null;
  if (/^\s*\d+\s*$/.test(header)) return Number(header);
  const at = Date.parse(header);
  return Number.isNaN(at) ? null : Math.max(0, (at - now) / 1000);
}

function detailOf(body: unknown): string {
  if (typeof body !== "object" || body === null || !("detail" in body)) return "";
  const { detail } = body;
  if (typeof detail === "string") return detail;
  if (Array.isArray(detail)) return detail.map((one: unknown) => detailOf({ detail: (one as { msg?: unknown })?.msg })).join("; ");
  return "";
}

/** The folder that the page stands in, from where this script was loaded: right with or without a slash at the end. */
export const root = (): string => new URL("..", import.meta.url).href;

async function ask<T>(path: string, signal: AbortSignal | null, body?: unknown): Promise<T> {
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  const init: RequestInit = {
    signal: signal === null ? limit : AbortSignal.any([signal, limit]),
    credentials: "same-origin",
    redirect: "manual",
    headers: { Accept: "application/json" },
  };
  if (body !== undefined) {
    init.method = "POST";
    init.headers = { Accept: "application/json", "Content-Type": "application/json", "X-Runops": "1" };
    init.body = JSON.stringify(body);
  }
  let answer: Response;
  try {
    answer = await fetch(new URL(`api/${path}`, root()), init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("offline", SENTENCES.offline);
  }
  // A redirect leads to a page to sign in.
  if (answer.type === "opaqueredirect") throw new ApiError("signed_out", SENTENCES.signed_out);
  let read: unknown;
  try {
    read = await answer.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    read = undefined;
  }
  if (answer.ok && typeof read === "object" && read !== null) return read as T;
  const failure = answer.ok ? "server" : failureOf(answer.status);
  const retryAfter = retryAfterOf(answer.headers.get("Retry-After"), Date.now());
  throw new ApiError(failure, messageOf(failure, detailOf(read), retryAfter), retryAfter);
}

export const fetchRuns = (view: ListView, scope: Scope, signal: AbortSignal): Promise<Runs> =>
  ask<Runs>(`runs?${listQuery(view, scope)}`, signal);
export const fetchRun = (ids: Ids, signal: AbortSignal): Promise<Row> => ask<Row>(`run?${idsQuery(ids)}`, signal);
export const fetchRows = (view: RunView, signal: AbortSignal): Promise<SetRows> =>
  ask<SetRows>(`rows?${rowsQuery(view, SET_PAGE)}`, signal);
export const fetchFacets = (signal: AbortSignal): Promise<Facets> => ask<Facets>("facets", signal);
export const fetchCharts = (view: ChartsView, scope: Scope, signal: AbortSignal): Promise<Charts> =>
  ask<Charts>(`charts?${chartsQuery(view, scope)}`, signal);

const idsOfRow = ({ dag_id, dag_run_id, task_id, map_index }: Ids): Ids => ({ dag_id, dag_run_id, task_id, map_index });

export const look = (row: Ids): Promise<Row> => ask<Row>("look", null, idsOfRow(row));
export const cancel = (row: Ids): Promise<Row> => ask<Row>("cancel", null, idsOfRow(row));
