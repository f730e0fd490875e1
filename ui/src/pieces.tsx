// Small pieces that every view is made of.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api.ts";
import { amount, count, moment, number } from "./format.ts";
import { followAbove, safeHref } from "./links.ts";
import type { Progress, Row } from "./model.ts";
import { beginning, cleanName, cleanText } from "./text.ts";
import { SIGNS, wordOf } from "./words.ts";
import type { Sign, Word } from "./words.ts";

export function Mark({ sign }: { sign: Sign }) {
  return <svg class="sign" viewBox="0 0 12 12" aria-hidden="true"><path d={SIGNS[sign]} /></svg>;
}

/** A stranger's name on one line, apart from the direction of the text around it. */
export function Name({ text, limit }: { text: unknown; limit?: number }) {
  const clean = cleanName(text, limit);
  return clean === "" ? null : <bdi class="name">{clean}</bdi>;
}

const FIRST_LETTERS = 600;

/** A stranger's text of any length. */
export function LongText({ text }: { text: unknown }) {
  const [all, setAll] = useState(false);
  const clean = cleanText(text);
  const first = beginning(clean, FIRST_LETTERS);
  return (
    <div class="long">
      <pre dir="auto" class="wrapped">{all ? clean : first.text}{first.more && !all ? "\u2026" : ""}</pre>
      {first.more ? (
        <button type="button" class="plain" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? "Show less" : `Show all ${number(clean.length)} characters`}
        </button>
      ) : null}
    </div>
  );
}

export function Time({ text }: { text: string | null | undefined }) {
  const at = moment(text);
  if (at === null) return text ? <Name text={text} limit={40} /> : null;
  return <time dateTime={at.iso} title={at.utc}>{at.local}</time>;
}

export const Badge = ({ row }: { row: Row }) => <WordBadge word={wordOf(row)} />;

export function WordBadge({ word }: { word: Word }) {
  return (
    <span class={`badge ${word.tone}`}>
      <Mark sign={word.sign} /> {cleanName(word.label, 40)}
    </span>
  );
}

export function ProgressBar({ progress, of }: { progress: Progress | null | undefined; of: string }) {
  if (!progress || typeof progress.done !== "number") return null;
  const { done } = progress;
  const unit = progress.unit ? ` ${cleanName(progress.unit, 40)}` : "";
  const total = typeof progress.total === "number" && progress.total > 0 ? progress.total : null;
  if (total === null) return <span class="progress">{number(done)}{unit}</span>;
  const percent = Math.floor(Math.min(1, Math.max(0, done / total)) * 100);
  const isPercent = total === 100 && /^\s*(%|percent)\s*$/.test(unit);
  return (
    <span class="progress">
      <progress max={total} value={Math.min(Math.max(done, 0), total)} aria-label={`Progress of ${cleanName(of, 80)}`}>{percent} %</progress>
      <span>{isPercent ? `${percent} %` : `${number(done)} of ${number(total)}${unit}`}</span>
    </span>
  );
}

export const Spend = ({ row }: { row: Row }) =>
  typeof row.spend === "number" ? <span class="number">{amount(row.spend, row.spend_unit)}</span> : null;

/** A link to a service's own page; nothing where its address is none that a link may have. */
export function ServiceLink({ url, title, of }: { url: unknown; title: string; of: string }) {
  const href = safeHref(url);
  if (href === null) return null;
  return (
    <a class="outside" href={href} target="_blank" rel="noopener noreferrer" title={`Opens ${new URL(href).host} in a new tab`}
      onClick={(event) => followAbove(event, true)}>
      Open in {cleanName(title, 40)}<span aria-hidden="true"> {"\u2197"}</span>
      <span class="only-read">: {cleanName(of, 80)}, in a new tab</span>
    </a>
  );
}

/** A link to a page of Airflow. */
export function AirflowLink({ href, children, label }: { href: string; children: ComponentChildren; label?: string }) {
  return (
    <a href={href} {...(label === undefined ? {} : { "aria-label": label })} onClick={(event) => followAbove(event, false)}>{children}</a>
  );
}

export function Failed({ error, retry, old }: { error: unknown; retry: () => void; old: boolean }) {
  if (error === null || error === undefined) return null;
  const message = error instanceof ApiError ? error.message : "The page itself has an error. Reload it.";
  return (
    <div class="message bad" role="alert">
      <Mark sign="alert" />
      <p>{message}{old ? " What is shown below is older." : ""}</p>
      <button type="button" onClick={retry}>Try again</button>
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return <p class="loading" role="status">Loading {what}{"\u2026"}</p>;
}

interface Paging {
  offset: number;
  limit: number;
  total: number;
  what: [string, string];
  go: (offset: number) => void;
}

export function Pager({ offset, limit, total, what, go }: Paging) {
  if (total === 0) return null;
  const last = Math.min(offset + limit, total);
  const back = Math.max(0, Math.min(offset - limit, Math.floor((total - 1) / limit) * limit));
  return (
    <nav class="pager" aria-label={`Pages of ${what[1]}`}>
      <span>{total <= limit && offset === 0 ? count(total, ...what) : `${number(Math.min(offset + 1, last))} to ${number(last)} of ${count(total, ...what)}`}</span>
      {total > limit || offset > 0 ? (
        <span class="buttons">
          {/* aria-disabled keeps the focus where it is when the last page is reached. */}
          <button type="button" aria-disabled={offset === 0} onClick={() => { if (offset > 0) go(0); }}>First</button>
          <button type="button" aria-disabled={offset === 0} onClick={() => { if (offset > 0) go(back); }}>Previous</button>
          <button type="button" aria-disabled={last >= total} onClick={() => { if (last < total) go(offset + limit); }}>Next</button>
        </span>
      ) : null}
    </nav>
  );
}

/** A field to search in, whose text goes on when the reader stops to type. */
export function Search({ label, value, change }: { label: string; value: string; change: (text: string) => void }) {
  const [text, setText] = useState(value);
  const timer = useRef(0);
  const mine = useRef(value);
  // When the time comes, the view may be another one than when the key was pressed.
  const newest = useRef(change);
  newest.current = change;
  useEffect(() => {
    // The address changed by something else than this field.
    if (value !== mine.current) setText(value);
    mine.current = value;
  }, [value]);
  useEffect(() => () => window.clearTimeout(timer.current), []);
  const send = (next: string): void => {
    window.clearTimeout(timer.current);
    if (mine.current === next.trim()) return;
    mine.current = next.trim();
    newest.current(next.trim());
  };
  return (
    <label class="search">
      <span class="only-read">{label}</span>
      <input type="search" value={text} placeholder={label} maxLength={200} spellcheck={false} autocomplete="off"
        onInput={(event) => {
          const next = event.currentTarget.value;
          setText(next);
          window.clearTimeout(timer.current);
          timer.current = window.setTimeout(() => send(next), 350);
        }}
        onBlur={(event) => send(event.currentTarget.value)}
        onKeyDown={(event) => { if (event.key === "Enter") send(event.currentTarget.value); }} />
    </label>
  );
}
