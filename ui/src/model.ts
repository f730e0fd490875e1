// What the server answers: the stored record of a run, and where in Airflow it belongs.

/** Names one task instance of Airflow. */
export interface Ids {
  dag_id: string;
  dag_run_id: string;
  task_id: string;
  map_index: number;
}

export interface Progress {
  done?: number | null;
  total?: number | null;
  unit?: string | null;
}

export interface Moment {
  at?: string | null;
  state?: string | null;
  phase?: string | null;
  outcome?: string | null;
}

/** How many runs of a set stand where. */
export interface Counts {
  total?: number | null;
  ended?: number | null;
  active?: number | null;
  /** Runs whose wait ended in an error, so that they have no outcome. */
  errors?: number | null;
  outcomes?: Record<string, number> | null;
  verdicts?: Record<string, number> | null;
}

export interface Row extends Ids {
  kind?: string | null;
  provider?: string | null;
  conn_id?: string | null;
  run_id?: string | null;
  parents?: Record<string, unknown> | null;
  url?: string | null;
  own?: boolean | null;
  cancels?: boolean | null;
  try_number?: number | null;
  state?: string | null;
  phase?: string | null;
  outcome?: string | null;
  verdict?: string | null;
  reason?: string | null;
  /** The name of the exception that ended the wait where no outcome is known. */
  error?: string | null;
  progress?: Progress | null;
  spend?: number | null;
  spend_unit?: string | null;
  holds?: string | null;
  holds_for?: string | null;
  began_at?: string | null;
  created_at?: string | null;
  started_at?: string | null;
  finished_at?: string | null;
  looked_at?: string | null;
  ended_at?: string | null;
  run_ended?: boolean | null;
  ended_by?: string | null;
  details?: Record<string, unknown> | null;
  timeline?: Moment[] | null;
  counts?: Counts | null;
  task_state?: string | null;
  usual_seconds?: number | null;
  age_seconds?: number | null;
  record_age_seconds?: number | null;
  may?: { look?: boolean; cancel?: boolean } | null;
}

export interface Runs {
  runs: Row[];
  total: number;
  now?: string | null;
}

export interface Facets {
  providers: { name: string; title?: string | null }[];
  dags: string[];
  tasks: string[];
}

/** One run of a set: a compact row, whose fields are those of a run's result. */
export type SetRow = Record<string, unknown>;

export interface SetRows {
  rows: SetRow[];
  total: number;
}

export interface Figures {
  outcomes?: Record<string, number> | null;
  runs?: number | null;
  seconds_median?: number | null;
  seconds_p90?: number | null;
  spend?: Record<string, number> | null;
}

export interface Day extends Figures {
  day: string;
  provider: string;
}

export interface TaskFigures extends Figures {
  dag_id: string;
  task_id: string;
  provider?: string | null;
}

export interface Charts {
  days: Day[];
  tasks?: TaskFigures[] | null;
  /** There were more runs than the server takes into account. */
  truncated?: boolean | null;
}

export const keyOf = (ids: Ids): string => JSON.stringify([ids.dag_id, ids.dag_run_id, ids.task_id, ids.map_index]);

const ENDED_TASKS = new Set(["success", "failed", "skipped", "upstream_failed", "removed"]);

/** Whether the task is over though its record does not say so: a killed process leaves no word. */
export const isLeft = (row: Row): boolean =>
  !row.outcome && !row.ended_at && !row.error && ENDED_TASKS.has(row.task_state ?? "");

/** Whether the wait for the run is over, as far as is known. */
export const isOver = (row: Row): boolean => Boolean(row.outcome || row.ended_at || row.error) || isLeft(row);
