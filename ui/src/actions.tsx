// "Look now" and "Cancel", for those whom the server lets.
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError, cancel, look } from "./api.ts";
import type { Row } from "./model.ts";
import { isOver } from "./model.ts";
import { Name } from "./pieces.tsx";
import { cleanName } from "./text.ts";
import { wordOf } from "./words.ts";

export interface Told {
  tone: "good" | "bad";
  text: string;
}

interface Props {
  row: Row;
  title: string;
  changed: (row: Row) => void;
  tell: (told: Told) => void;
}

/** What a row is called in a sentence. */
export function runName(row: Row): string {
  if (row.kind === "set") return "the runs";
  return row.run_id ? `run ${cleanName(row.run_id, 80)}` : "the run";
}

const messageOf = (error: unknown): string =>
  error instanceof ApiError ? error.message : "The page itself has an error. Reload it.";

export function Actions({ row, title, changed, tell }: Props) {
  const [busy, setBusy] = useState<"" | "look" | "cancel">("");
  const [asking, setAsking] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  if (!row.may?.look && !row.may?.cancel) return null;
  const name = runName(row);
  const act = async (what: "look" | "cancel"): Promise<void> => {
    if (busy !== "") return;
    setBusy(what);
    try {
      const newer = await (what === "look" ? look(row) : cancel(row));
      changed(newer);
      const state = wordOf(newer).label.toLowerCase();
      tell({ tone: "good", text: what === "look" ? `Looked at ${name}: ${cleanName(state, 40)}.` : `Asked ${title} to cancel ${name}.` });
    } catch (error) {
      tell({ tone: "bad", text: `${what === "look" ? "No look" : "Not cancelled"}: ${messageOf(error)}` });
    } finally {
      setBusy("");
    }
  };
  const closed = (confirmed: boolean): void => {
    setAsking(false);
    button.current?.focus();
    if (confirmed) void act("cancel");
  };
  return (
    <span class="actions">
      {row.may.look ? (
        <button type="button" aria-disabled={busy !== ""} onClick={() => void act("look")}>
          {busy === "look" ? "Looking\u2026" : "Look now"}<span class="only-read"> at {name} of {title}</span>
        </button>
      ) : null}
      {row.may.cancel ? (
        <button type="button" ref={button} class="danger" aria-haspopup="dialog" aria-disabled={busy !== ""}
          onClick={() => { if (busy === "") setAsking(true); }}>
          {busy === "cancel" ? "Cancelling\u2026" : "Cancel"}<span class="only-read"> {name} of {title}</span>
        </button>
      ) : null}
      {asking ? <Confirm row={row} title={title} closed={closed} /> : null}
    </span>
  );
}

function Confirm({ row, title, closed }: { row: Row; title: string; closed: (confirmed: boolean) => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const done = useRef(false);
  // Before the next key can be pressed.
  useLayoutEffect(() => dialog.current?.showModal(), []);
  const end = (confirmed: boolean): void => {
    if (done.current) return;
    done.current = true;
    dialog.current?.close();
    closed(confirmed);
  };
  const many = row.kind === "set";
  return (
    <dialog ref={dialog} aria-labelledby="cancel-title" aria-describedby="cancel-what" onClose={() => end(false)}>
      <h2 id="cancel-title">{many ? "Cancel these runs?" : "Cancel this run?"}</h2>
      <div id="cancel-what">
        <dl class="facts">
          <dt>{many ? "Runs" : "Run"}</dt>
          <dd>{many ? `All of the set that are active in ${title}` : <><Name text={row.run_id ?? "not known yet"} /> in {title}</>}</dd>
          <dt>Task</dt>
          <dd><Name text={row.task_id} />{row.map_index >= 0 ? ` [${row.map_index}]` : ""}</dd>
          <dt>DAG</dt>
          <dd><Name text={row.dag_id} /></dd>
          <dt>DAG run</dt>
          <dd><Name text={row.dag_run_id} /></dd>
        </dl>
        <p>
          {isOver(row)
            ? `The wait is over, but ${many ? "runs" : "the run"} may go on in ${title}. Nothing changes in Airflow.`
            : `The task is marked as failed, and ${many ? "the runs are" : "the run is"} cancelled in ${title}. This cannot be undone.`}
        </p>
        {row.own === false ? <p><strong>This task did not start {many ? "them" : "it"}:</strong> somebody else may count on {many ? "their ends" : "its end"}.</p> : null}
      </div>
      <div class="buttons">
        <button type="button" autofocus onClick={() => end(false)}>Keep {many ? "them" : "it"} running</button>
        <button type="button" class="danger full" onClick={() => end(true)}>Cancel the {many ? "runs" : "run"}</button>
      </div>
    </dialog>
  );
}
