// Outcomes, durations and spend over time: drawn for each provider, and each drawing as a table too.
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { chartsQuery, DAYS, emptyList, hashOf } from "./address.ts";
import type { ChartsView } from "./address.ts";
import { fetchCharts } from "./api.ts";
import { Choice } from "./choice.tsx";
import { daysUntil, niceCount, niceSeconds, niceTop, seriesOf, unitsOf } from "./figures.ts";
import type { Series } from "./figures.ts";
import { amount, count, duration, number } from "./format.ts";
import { useFresh } from "./hooks.ts";
import type { Charts, Day, TaskFigures } from "./model.ts";
import { Empty, Failed, Loading, Name } from "./pieces.tsx";
import type { Shell } from "./shell.ts";
import { Status } from "./status.tsx";
import { cleanName } from "./text.ts";
import { OUTCOME_NAMES, outcomeWord } from "./words.ts";

export function ChartsPage({ view, shell }: { view: ChartsView; shell: Shell }) {
  const query = chartsQuery(view, shell.scope);
  const fresh = useFresh(query, (signal) => fetchCharts(view, shell.scope, signal), { live: false, keep: true });
  const { facets, scope } = shell;
  const same = (names: string[]) => names.map((value) => ({ value, label: value }));
  const days = daysUntil(new Date(), view.days);
  const series = fresh.data === null ? [] : seriesOf(fresh.data, days);
  return (
    <>
      <div class="filters row" role="search" aria-label="Charts">
        <label class="field">Time{" "}
          <select value={String(view.days)} onChange={(event) => shell.go({ ...view, days: Number(event.currentTarget.value) })}>
            {DAYS.map((each) => <option key={each} value={String(each)}>Last {each} days</option>)}
          </select>
        </label>
        <Choice label="Provider" options={facets.providers.map((each) => ({ value: each.name, label: each.title || each.name }))}
          chosen={view.provider} change={(provider) => shell.go({ ...view, provider })} />
        {scope.dag_id === undefined ? <Choice label="DAG" options={same(facets.dags)} chosen={view.dag_id} change={(dag_id) => shell.go({ ...view, dag_id })} /> : null}
        {scope.task_id === undefined ? <Choice label="Task" options={same(facets.tasks)} chosen={view.task_id} change={(task_id) => shell.go({ ...view, task_id })} /> : null}
      </div>
      <Status fresh={fresh} live />
      <Failed error={fresh.error} retry={fresh.refresh} old={fresh.data !== null} />
      {fresh.data === null && fresh.error === null ? <Loading what="charts" /> : null}
      {fresh.data?.truncated ? <p class="message">There are more runs than are counted here: only the newest ones are. Choose fewer days, or one DAG.</p> : null}
      {fresh.data !== null && series.length === 0 ? (
        <Empty title="No run ended in this time."><p>Choose more days, or other filters.</p></Empty>
      ) : null}
      {series.length > 0 ? <p class="quiet">A run counts on the day, in UTC, on which it ended.</p> : null}
      <div class={fresh.busy ? "waits" : ""} aria-busy={fresh.busy}>
        {series.map((each) => <ProviderCharts key={each.provider} series={each} days={days} title={shell.titleOf(each.provider)} />)}
        {fresh.data !== null ? <Tasks charts={fresh.data} view={view} shell={shell} /> : null}
      </div>
    </>
  );
}

function ProviderCharts({ series, days, title }: { series: Series; days: string[]; title: string }) {
  const id = useId();
  return (
    <section aria-labelledby={id} class="provider">
      <h2 id={id}><Name text={title} limit={60} /> <span class="quiet">{count(series.runs, "run", "runs")} ended</span></h2>
      <div class="charts">
        <Outcomes series={series} days={days} />
        <Durations series={series} days={days} />
        {unitsOf(series).map((unit) => <SpendChart key={unit} series={series} days={days} unit={unit} />)}
      </div>
    </section>
  );
}

const WIDTH = 420;
const HEIGHT = 170;
const LEFT = 58;
const RIGHT = 6;
const TOP = 8;
const BOTTOM = 22;

const across = (index: number, days: number): number => LEFT + ((WIDTH - LEFT - RIGHT) * (index + 0.5)) / days;
const up = (value: number, top: number): number => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * value) / top;
const shortDay = (day: string): string =>
  new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" }).format(new Date(`${day}T00:00:00Z`));

interface FrameProps {
  title: string;
  /** What the drawing shows, in a sentence for those who do not see it. */
  says: string;
  days: string[];
  top: number;
  label: (value: number) => string;
  children: ComponentChildren;
  legend?: ComponentChildren;
  head: string[];
  rows: (string | null)[][];
}

/** The frame of a chart: its axes, its legend and its table. */
function Frame({ title, says, days, top, label, children, legend, head, rows }: FrameProps) {
  const every = Math.ceil(days.length / 5);
  const shown = rows.filter((row) => row.some((cell, index) => index > 0 && cell !== null && cell !== ""));
  return (
    <figure>
      <figcaption>{title}</figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={says}>
        {[0, top / 2, top].map((value) => (
          <g key={value}>
            <line class="rule" x1={LEFT} x2={WIDTH - RIGHT} y1={up(value, top)} y2={up(value, top)} />
            <text class="scale" x={LEFT - 5} y={up(value, top) + 4} text-anchor="end">{label(value)}</text>
          </g>
        ))}
        {days.map((day, index) => (days.length - 1 - index) % every === 0 ? (
          <text key={day} class="scale" x={across(index, days.length)} y={HEIGHT - 6} text-anchor={index === days.length - 1 ? "end" : "middle"}>{shortDay(day)}</text>
        ) : null)}
        {children}
      </svg>
      {legend}
      <details>
        <summary>Show as a table<span class="only-read">: {title}</span></summary>
        <div class="scrolls" tabIndex={0} role="region" aria-label={`Table of ${title.toLowerCase()}`}>
          <table>
            <thead><tr>{head.map((each) => <th key={each} scope="col">{each}</th>)}</tr></thead>
            <tbody>
              {shown.map(([day, ...cells]) => (
                <tr key={day}><th scope="row">{day}</th>{cells.map((cell, index) => <td key={head[index + 1] ?? ""}>{cell ?? ""}</td>)}</tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </figure>
  );
}

type Drawn = { series: Series; days: string[] };

/** Bars of several parts; beside its colour each part has a pattern of its own. */
function Outcomes({ series, days }: Drawn) {
  const id = useId().replace(/[^\w-]/g, "");
  const there = OUTCOME_NAMES.filter((name) => series.days.some((day) => (day?.outcomes?.[name] ?? 0) > 0));
  const totalOf = (day: Day | null): number => there.reduce((sum, name) => sum + (day?.outcomes?.[name] ?? 0), 0);
  const top = niceCount(Math.max(...series.days.map(totalOf)));
  const wide = Math.min(26, ((WIDTH - LEFT - RIGHT) / days.length) * 0.72);
  const sums = there.map((name) => `${outcomeWord(name)} ${number(series.days.reduce((sum, day) => sum + (day?.outcomes?.[name] ?? 0), 0))}`);
  return (
    <Frame title="Outcomes, runs a day" says={`Bars of how many runs ended on each day. In all: ${sums.join(", ")}.`} days={days} top={top}
      label={number} head={["Day", ...there.map(outcomeWord)]}
      rows={days.map((day, index) => [day, ...there.map((name) => { const found = series.days[index]?.outcomes?.[name]; return found ? number(found) : null; })])}
      legend={
        <ul class="legend">
          {there.map((name) => (
            <li key={name}><svg viewBox="0 0 14 14" aria-hidden="true"><rect class={`fill ${name}`} width="14" height="14" /><rect fill={`url(#${id}${name})`} width="14" height="14" /></svg>{outcomeWord(name)}</li>
          ))}
        </ul>
      }>
      <defs>{there.map((name) => <Pattern key={name} id={`${id}${name}`} name={name} />)}</defs>
      {series.days.map((day, index) => {
        let below = 0;
        return there.map((name) => {
          const value = day?.outcomes?.[name] ?? 0;
          if (value === 0) return null;
          const box = { x: across(index, days.length) - wide / 2, width: wide, y: up(below + value, top), height: Math.max(1, up(below, top) - up(below + value, top)) };
          below += value;
          return (
            <g key={name}>
              <title>{`${days[index]}: ${outcomeWord(name)} ${value}`}</title>
              <rect class={`fill ${name}`} {...box} />
              <rect fill={`url(#${id}${name})`} {...box} />
            </g>
          );
        });
      })}
    </Frame>
  );
}

const STROKES: Record<string, string> = {
  degraded: "M0 6L6 0",
  exhausted: "M0 3H6",
  failed: "M0 0L6 6M0 6L6 0",
  cancelled: "M3 0V6",
  timed_out: "M0 0L6 6",
};

function Pattern({ id, name }: { id: string; name: string }) {
  return (
    <pattern id={id} width="6" height="6" patternUnits="userSpaceOnUse">
      {STROKES[name] === undefined ? null : <path d={STROKES[name]} class="hatch" />}
    </pattern>
  );
}

/** A line through the days that there are; a day of its own is a point. */
function Line({ values, top, kind }: { values: (number | null)[]; top: number; kind: string }) {
  const points = values.flatMap((value, index) =>
    value === null ? [] : [{ x: across(index, values.length), y: up(value, top) }]);
  return (
    <>
      <path class={`line ${kind}`} d={points.map(({ x, y }, index) => `${index === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("")} />
      {points.map(({ x, y }) => kind === "median"
        ? <circle key={x} class={`point ${kind}`} cx={x} cy={y} r="2.6" />
        : <path key={x} class={`point ${kind}`} d={`M${x - 3} ${y + 2.5}h6l-3 -5.5z`} />)}
    </>
  );
}

function Durations({ series, days }: Drawn) {
  const median = series.days.map((day) => day?.seconds_median ?? null);
  const p90 = series.days.map((day) => day?.seconds_p90 ?? null);
  const known = [...median, ...p90].filter((value): value is number => value !== null);
  if (known.length === 0) return null;
  const top = niceSeconds(Math.max(...known));
  return (
    <Frame title="Durations" says={`Lines of how long runs took on each day: half of them at most between ${duration(Math.min(...median.filter((each): each is number => each !== null)))} and ${duration(Math.max(...median.filter((each): each is number => each !== null)))}, nine of ten at most ${duration(Math.max(...known))}.`}
      days={days} top={top} label={(value) => duration(value)} head={["Day", "Half took at most", "Nine of ten took at most"]}
      rows={days.map((day, index) => [day, median[index] === null ? null : duration(median[index]), p90[index] === null ? null : duration(p90[index])])}
      legend={
        <ul class="legend">
          <li><svg viewBox="0 0 24 14" class="wide" aria-hidden="true"><path class="line median" d="M0 7H24" /><circle class="point median" cx="12" cy="7" r="2.6" /></svg>Half took at most</li>
          <li><svg viewBox="0 0 24 14" class="wide" aria-hidden="true"><path class="line p90" d="M0 7H24" /><path class="point p90" d="M9 9.5h6l-3 -5.5z" /></svg>Nine of ten took at most</li>
        </ul>
      }>
      <Line values={p90} top={top} kind="p90" />
      <Line values={median} top={top} kind="median" />
    </Frame>
  );
}

function SpendChart({ series, days, unit }: Drawn & { unit: string }) {
  const values = series.days.map((day) => day?.spend?.[unit] ?? 0);
  const top = niceTop(Math.max(...values));
  const wide = Math.min(26, ((WIDTH - LEFT - RIGHT) / days.length) * 0.72);
  const sum = values.reduce((all, value) => all + value, 0);
  return (
    <Frame title={`Spend a day, in ${cleanName(unit, 40)}`} says={`Bars of what was spent on each day, ${amount(sum, unit)} in all.`} days={days} top={top}
      label={(value) => new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 }).format(value)} head={["Day", "Spend"]}
      rows={days.map((day, index) => [day, values[index] ? amount(values[index], unit) : null])}
      legend={<p class="quiet">{amount(sum, unit)} in all</p>}>
      {values.map((value, index) => value > 0 ? (
        <rect key={days[index]} class="fill spend" x={across(index, days.length) - wide / 2} width={wide} y={up(value, top)} height={Math.max(1, up(0, top) - up(value, top))}>
          <title>{`${days[index]}: ${amount(value, unit)}`}</title>
        </rect>
      ) : null)}
    </Frame>
  );
}

function Tasks({ charts, view, shell }: { charts: Charts; view: ChartsView; shell: Shell }) {
  const tasks = charts.tasks ?? [];
  if (tasks.length === 0) return null;
  const only = (task: TaskFigures) => hashOf({ ...view, dag_id: [task.dag_id], task_id: [task.task_id] });
  const listed = (task: TaskFigures) => {
    const list = emptyList();
    list.filters.dag_id = [task.dag_id];
    list.filters.task_id = [task.task_id];
    return hashOf(list);
  };
  return (
    <section aria-labelledby="by-task">
      <h2 id="by-task">By task</h2>
      <table class="runs tasks" role="table">
        <caption class="only-read">Figures of each task</caption>
        <thead role="rowgroup">
          <tr role="row">{["Task", "Provider", "Runs", "Outcomes", "Half took at most", "Nine of ten", "Spend"].map((each) => <th key={each} scope="col" role="columnheader">{each}</th>)}</tr>
        </thead>
        <tbody role="rowgroup">
          {tasks.map((task) => (
            <tr key={`${task.dag_id}/${task.task_id}/${task.provider}`} role="row">
              <td role="cell" data-label="Task" class="two"><a href={only(task)}><Name text={task.task_id} /></a><span class="quiet"><Name text={task.dag_id} /></span></td>
              <td role="cell" data-label="Provider"><Name text={shell.titleOf(task.provider)} limit={60} /></td>
              <td role="cell" data-label="Runs"><a href={listed(task)}>{number(task.runs ?? 0)}<span class="only-read"> runs of <Name text={task.task_id} /></span></a></td>
              <td role="cell" data-label="Outcomes">{OUTCOME_NAMES.filter((name) => task.outcomes?.[name]).map((name) => `${outcomeWord(name)} ${number(task.outcomes?.[name])}`).join(", ")}</td>
              <td role="cell" data-label="Half took at most">{duration(task.seconds_median)}</td>
              <td role="cell" data-label="Nine of ten">{duration(task.seconds_p90)}</td>
              <td role="cell" data-label="Spend">{Object.entries(task.spend ?? {}).map(([unit, value]) => amount(value, unit)).join(", ")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
