// A filter: a button that opens a list of boxes to tick.
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { number } from "./format.ts";
import { cleanName } from "./text.ts";

interface Props {
  label: string;
  options: { value: string; label: string }[];
  chosen: string[];
  change: (chosen: string[]) => void;
}

/** From so many options on there is a field to search in them. */
const MANY = 12;
const SHOWN = 100;

export function Choice({ label, options, chosen, change }: Props) {
  const [open, setOpen] = useState(false);
  const [part, setPart] = useState("");
  const box = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const id = useId();
  useEffect(() => {
    if (!open) return;
    const outside = (event: Event): void => {
      if (!box.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    document.addEventListener("focusin", outside);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("focusin", outside);
    };
  }, [open]);
  // What was chosen by the address may be none of what there is now.
  const known = new Set(options.map((option) => option.value));
  const all = [...chosen.filter((value) => !known.has(value)).map((value) => ({ value, label: value })), ...options];
  const lower = part.toLowerCase();
  const found = all.filter((option) => option.label.toLowerCase().includes(lower));
  const ticked = (value: string, on: boolean): void =>
    change(on ? [...chosen, value] : chosen.filter((each) => each !== value));
  return (
    <div class="choice" ref={box}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !open) return;
        event.stopPropagation();
        setOpen(false);
        button.current?.focus();
      }}>
      <button type="button" ref={button} aria-expanded={open} aria-controls={id} class={chosen.length > 0 ? "chosen" : ""}
        onClick={() => setOpen(!open)}>
        <span class="only-read">Filter by </span>{label}{chosen.length > 0 ? ` (${chosen.length})` : ""} <span aria-hidden="true" class="arrow">{"\u25be"}</span>
      </button>
      <div id={id} class="options" hidden={!open}>
        {open ? (
          <fieldset>
            <legend class="only-read">{label}</legend>
            {all.length > MANY ? (
              <input type="search" aria-label={`Search in: ${label}`} placeholder="Search" value={part}
                onInput={(event) => setPart(event.currentTarget.value)} />
            ) : null}
            {found.slice(0, SHOWN).map((option) => (
              <label key={option.value}>
                <input type="checkbox" checked={chosen.includes(option.value)}
                  onChange={(event) => ticked(option.value, event.currentTarget.checked)} />
                <bdi class="name">{cleanName(option.label, 120)}</bdi>
              </label>
            ))}
            {found.length > SHOWN ? <p class="quiet">{number(found.length - SHOWN)} more: search for them.</p> : null}
            {found.length === 0 ? <p class="quiet">{all.length === 0 ? "There is none yet." : "None of them has this in its name."}</p> : null}
            {chosen.length > 0 ? <button type="button" class="plain" onClick={() => change([])}>Clear<span class="only-read"> {label}</span></button> : null}
          </fieldset>
        ) : null}
      </div>
    </div>
  );
}
