// Which addresses may become a link, and how a link is opened out of the frame that Airflow puts the page in.
import { above } from "./above.ts";
import type { Ids } from "./model.ts";

/** The address if it is plain http or https without a user name in it, else null: it is then shown as no link. */
export function safeHref(address: unknown): string | null {
  if (typeof address !== "string" || address.length > 4096) return null;
  let parsed: URL;
  try {
    parsed = new URL(address);
  } catch {
    return null;
  }
  if (parsed.protocol !== "https:" && parsed.protocol !== "http:") return null;
  if (parsed.username !== "" || parsed.password !== "" || parsed.hostname === "") return null;
  return parsed.href;
}

/** Airflow's own page of a task instance. `root` is the address of the page's folder, such as `/runops/`. */
export function taskHref(root: string, ids: Ids): string {
  const part = encodeURIComponent;
  const mapped = ids.map_index >= 0 ? `/mapped/${ids.map_index}` : "";
  return `${airflowRoot(root)}dags/${part(ids.dag_id)}/runs/${part(ids.dag_run_id)}/tasks/${part(ids.task_id)}${mapped}`;
}

export const dagHref = (root: string, dag: string): string => `${airflowRoot(root)}dags/${encodeURIComponent(dag)}`;

const airflowRoot = (root: string): string => new URL("..", root).href;

/**
 * Follow a link where the page is framed: the frame's sandbox opens no window and moves no parent, but the parent is of
 * the same origin, so a link made there is one of Airflow's own page.
 */
export function followAbove(event: MouseEvent, newTab: boolean): void {
  const outer = above();
  const link = event.currentTarget as HTMLAnchorElement;
  if (outer === null || event.defaultPrevented || event.button !== 0) return;
  event.preventDefault();
  const made = outer.document.createElement("a");
  made.href = link.href;
  if (newTab || event.ctrlKey || event.metaKey || event.shiftKey) {
    made.target = "_blank";
    made.rel = "noopener noreferrer";
  }
  made.hidden = true;
  outer.document.body.append(made);
  made.click();
  made.remove();
}
