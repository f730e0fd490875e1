// The page of one run: where it stands, how it came there, and the rows of a set.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Actions } from "./actions.tsx";
import { hashOf, idsQuery, rowsQuery } from "./address.ts";
import type { RunView } from "./address.ts";
import { fetchRows, fetchRun, root, SET_PAGE } from "./api.ts";
import { Choice } from "./choice.tsx";
import { amount, count, duration, moment, number, secondsBetween } from "./format.ts";
import { useClock, useFresh } from "./hooks.ts";
import { dagHref, safeHref, taskHref } from "./links.ts";
import { Age, Holds, LastLook, progressOf, setName } from "./list.tsx";
import { isLeft, isOver } from "./model.ts";
import type { Row, SetRow } from "./model.ts";
import { AirflowLink, Badge, WordBadge, Empty, Failed, Loading, LongText, Mark, Name, Pager, ProgressBar, Search, ServiceLink, Time } from "./pieces.tsx";
import type { Shell } from "./shell.ts";
import { Status } from "./status.tsx";
import { cleanName } from "./text.ts";
import { clockWord, fieldWord, OUTCOME_NAMES, outcomeWord, verdictWord, wordOf, wordOfSetRow } from "./words.ts";

export function Run({ view, shell, tab }: { view: RunView; shell: Shell; tab: boolean }) {
  const fresh = useFresh(idsQuery(view.ids), (signal) => fetchRun(view.ids, signal), { live: shell.live, keep: false });
  const row = fresh.data;
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (row !== null && !tab) heading.current?.focus();
  }, [row === null]);
  const title = shell.titleOf(row?.provider);
  const name = row === null ? "Run" : row.kind === "set" ? setName(row) : cleanName(row.run_id ?? "", 200) || "No run yet";
  useEffect(() => {
    document.title = row === null ? "External runs" : `${name} \u00b7 External runs`;
  }, [name]);
  return (
    <article>
      {tab ? null : <p><a href={hashOf(shell.list)}><span aria-hidden="true">{"\u2190"} </span>All runs</a></p>}
      <Failed error={fresh.error} retry={fresh.refresh} old={row !== null} />
      {row === null ? (fresh.error === null ? <Loading what="the run" /> : null) : (
        <>
          <header class="run-head">
            <h2 ref={heading} tabIndex={-1}><span class="quiet"><Name text={title} limit={60} /></span> <bdi class="name">{name}</bdi></h2>
            <p class="line">
              <Badge row={row} />
              <ProgressBar progress={progressOf(row)} of={name} />
              <ServiceLink url={row.url} title={title} of={name} />
              <Actions row={row} title={title} changed={(newer) => fresh.patch(() => newer)} tell={shell.tell} />
            </p>
          </header>
          <Status fresh={fresh} live={shell.live} />
          <Facts row={row} at={fresh.at} />
          {row.reason ? <section aria-labelledby="reason"><h3 id="reason">Reason</h3><LongText text={row.reason} /></section> : null}
          <Timeline row={row} />
          <Details row={row} />
          {row.kind === "set" ? <SetOfRuns view={view} shell={shell} row={row} title={title} /> : null}
        </>
      )}
    </article>
  );
}

function Fact({ label, children }: { label: string; children: ComponentChildren }) {
  return <div class="fact"><dt>{label}</dt><dd>{children}</dd></div>;
}

function Facts({ row, at }: { row: Row; at: number }) {
  const since = (useClock() - at) / 1000;
  const took = secondsBetween(row.started_at ?? row.created_at, row.finished_at);
  return (
    <dl class="grid">
      {row.state ? <Fact label="State, in the service's own word"><Name text={row.state} /></Fact> : null}
      {row.verdict ? <Fact label="Verdict">{cleanName(verdictWord(row.verdict), 60)}</Fact> : null}
      {row.holds ? <Fact label="Waits for"><Holds row={row} /></Fact> : null}
      {row.error ? <Fact label="Error that ended the wait"><Name text={row.error} limit={80} /></Fact> : null}
      {row.ended_by ? <Fact label="Ended by">{cleanName(clockWord(row.ended_by), 80)}</Fact> : null}
      {isLeft(row) ? <Fact label="The wait">Has ended with the task, without a last word: this is how the run was last seen</Fact> : null}
      {isOver(row) && !isLeft(row) && row.run_ended === false ? <Fact label="The run itself">May still go on: only the wait for it is over</Fact> : null}
      <Fact label="Age"><Age row={row} since={since} /></Fact>
      {typeof row.spend === "number" ? <Fact label="Spend">{amount(row.spend, row.spend_unit)}</Fact> : null}
      <Fact label="Last look"><LastLook row={row} since={since} />{row.looked_at ? <span class="quiet"> <Time text={row.looked_at} /></span> : null}</Fact>
      <Fact label="Task"><AirflowLink href={taskHref(root(), row)}><Name text={row.task_id} />{row.map_index >= 0 ? ` [${row.map_index}]` : ""}</AirflowLink>{row.task_state ? <span class="quiet"> {cleanName(row.task_state, 40).replaceAll("_", " ")}</span> : null}</Fact>
      <Fact label="DAG"><AirflowLink href={dagHref(root(), row.dag_id)}><Name text={row.dag_id} /></AirflowLink></Fact>
      <Fact label="DAG run"><Name text={row.dag_run_id} /></Fact>
      {row.try_number ? <Fact label="Try">{number(row.try_number)}</Fact> : null}
      {row.run_id ? <Fact label="Run ID"><code><Name text={row.run_id} limit={1000} /></code></Fact> : null}
      {Object.entries(row.parents ?? {}).map(([name, value]) => (
        <Fact key={name} label={cleanName(fieldWord(name), 60)}><code><Name text={value} limit={1000} /></code></Fact>
      ))}
      {row.conn_id ? <Fact label="Connection"><Name text={row.conn_id} /></Fact> : null}
      <Fact label="Started by">{row.own ? "This task" : "Somebody else: this task only waits for it"}</Fact>
      {row.began_at ? <Fact label="Wait began"><Time text={row.began_at} /></Fact> : null}
      {row.created_at ? <Fact label="Created"><Time text={row.created_at} /></Fact> : null}
      {row.started_at ? <Fact label="Started"><Time text={row.started_at} /></Fact> : null}
      {row.finished_at ? <Fact label="Finished"><Time text={row.finished_at} />{took === null ? null : <span class="quiet"> after {duration(took)}</span>}</Fact> : null}
    </dl>
  );
}

function Timeline({ row }: { row: Row }) {
  const moments = row.timeline ?? [];
  if (moments.length === 0) return null;
  return (
    <section aria-labelledby="timeline">
      <h3 id="timeline">Timeline</h3>
      <ol class="timeline">
        {moments.map((each, index) => {
          const next = moments[index + 1];
          const lasted = secondsBetween(each.at, next?.at);
          const word = wordOf({ ...each, run_id: row.run_id, counts: row.counts });
          const own = each.state && each.state.toLowerCase() !== word.label.toLowerCase();
          return (
            <li key={`${each.at} ${index}`} class={word.tone}>
              <Mark sign={word.sign} />
              <span class="what">{cleanName(word.label, 40)}{own ? <span class="quiet"> <Name text={each.state} limit={80} /></span> : null}</span>
              <span class="when"><Time text={each.at} />{lasted === null ? null : <span class="quiet"> for {duration(lasted)}</span>}</span>
            </li>
          );
        })}
      </ol>
    </section>
  );
}

function Details({ row }: { row: Row }) {
  const details = Object.entries(row.details ?? {});
  if (details.length === 0) return null;
  return (
    <section aria-labelledby="details">
      <h3 id="details">Details</h3>
      <dl class="grid">
        {details.map(([name, value]) => (
          <Fact key={name} label={cleanName(fieldWord(name), 80)}>
            {typeof value === "number" ? number(value) : typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value) && moment(value) !== null ? <Time text={value} /> : <Name text={value} limit={1000} />}
          </Fact>
        ))}
      </dl>
    </section>
  );
}

function SetOfRuns({ view, shell, row, title }: { view: RunView; shell: Shell; row: Row; title: string }) {
  const fresh = useFresh(rowsQuery(view, SET_PAGE), (signal) => fetchRows(view, signal), { live: shell.live && !isOver(row), keep: true });
  const { data } = fresh;
  const told = useRef("");
  const query = rowsQuery(view, SET_PAGE);
  useEffect(() => {
    if (data === null || fresh.key !== query || told.current === query) return;
    if (told.current !== "") shell.announce(`${count(data.total, "run", "runs")} of the set found.`);
    told.current = query;
  }, [data, fresh.key, query]);
  return (
    <section aria-labelledby="set" class="set">
      <h3 id="set">Runs of the set</h3>
      <Counted row={row} />
      <div class="row">
        <Search label="Search the runs of the set" value={view.q} change={(q) => shell.go({ ...view, q, offset: 0 })} />
        <Choice label="Outcome" options={OUTCOME_NAMES.map((value) => ({ value, label: outcomeWord(value) }))} chosen={view.outcome}
          change={(outcome) => shell.go({ ...view, outcome, offset: 0 })} />
      </div>
      <Failed error={fresh.error} retry={fresh.refresh} old={data !== null} />
      {data === null && fresh.error === null ? <Loading what="the runs of the set" /> : null}
      {data !== null && data.rows.length === 0 ? (
        <Empty title={data.total > 0 ? "This page is empty." : view.q !== "" || view.outcome.length > 0 ? "No run of the set is like this." : "No run of the set is known yet."}>
          {data.total > 0 ? <button type="button" onClick={() => shell.go({ ...view, offset: 0 })}>Go to the first page</button> : null}
        </Empty>
      ) : null}
      {data !== null && data.rows.length > 0 ? <SetTable rows={data.rows} title={title} unit={row.spend_unit} /> : null}
      {data !== null ? (
        <Pager offset={view.offset} limit={SET_PAGE} total={data.total} what={["run", "runs"]} go={(offset) => shell.go({ ...view, offset })} />
      ) : null}
    </section>
  );
}

function Counted({ row }: { row: Row }) {
  const counts = row.counts;
  if (!counts) return null;
  const parts: [string, number | null | undefined][] = [
    ["In all", counts.total], ["Ended", counts.ended], ["Active", counts.active],
    ...Object.entries(counts.outcomes ?? {}).map(([name, value]): [string, number] => [outcomeWord(name), value]),
    ["Ended in an error", counts.errors || null],
  ];
  return (
    <dl class="counts">
      {parts.filter(([, value]) => typeof value === "number").map(([name, value]) => (
        <div key={name}><dt>{cleanName(name, 40)}</dt><dd>{number(value)}</dd></div>
      ))}
    </dl>
  );
}

const textOf = (row: SetRow, name: string): string | null => (typeof row[name] === "string" ? row[name] : null);

function SetTable({ rows, title, unit }: { rows: SetRow[]; title: string; unit: string | null | undefined }) {
  return (
    <table class="runs set-rows" role="table">
      <caption class="only-read">Runs of the set</caption>
      <thead role="rowgroup">
        <tr role="row">
          {["Number", "Run", "State", "Verdict", "Spend", "What ended it"].map((label) => <th key={label} scope="col" role="columnheader">{label}</th>)}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row, place) => {
          const id = textOf(row, "run_id");
          const standing = { run_id: id, phase: textOf(row, "phase"), outcome: textOf(row, "outcome"), error: textOf(row, "error") };
          const word = wordOfSetRow(standing, textOf(row, "state"));
          const verdict = textOf(row, "verdict");
          const ended = textOf(row, "reason") ?? textOf(row, "error") ?? (textOf(row, "ended_by") === null ? "" : clockWord(textOf(row, "ended_by") as string));
          const index = typeof row["index"] === "number" ? row["index"] : place;
          return (
            <tr key={index} role="row">
              <td role="cell" data-label="Number">{number(index)}</td>
              <td role="cell" data-label="Run" class="two">
                {id === null ? <span class="quiet">No run yet</span> : <Name text={id} />}
                {safeHref(row["url"]) === null ? null : <ServiceLink url={row["url"]} title={title} of={id ?? ""} />}
              </td>
              <td role="cell" data-label="State"><WordBadge word={word} /></td>
              <td role="cell" data-label="Verdict">{verdict === null ? "" : cleanName(verdictWord(verdict), 40)}</td>
              <td role="cell" data-label="Spend">{typeof row["spend"] === "number" ? amount(row["spend"], textOf(row, "spend_unit") ?? unit) : ""}</td>
              <td role="cell" data-label="What ended it"><Name text={ended} limit={300} /></td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}
