// Texts of strangers (names, reasons, states) made harmless to look at: nothing is hidden, nothing moves what stands beside.

const ESCAPE_SEQUENCE = /(?:\u001b\[|\u009b)[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|\u001b[PX^_][^\u001b]*\u001b\\|\u001b[ -/]*[0-~]/g;
// Direction overrides and isolates, and what has no width but the two joiners that scripts need.
const INVISIBLE = /[\u061c\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;
const MANY_MARKS = /(\p{M}{4})\p{M}+/gu;
const LINE_BREAKS = /\r\n?|[\u0085\u2028\u2029]/g;
// Every control character but tab and line feed.
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;

export const NAME_LIMIT = 300;

const shown = (character: string): string =>
  `[U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}]`;

/** A text of several lines: terminal colours gone, every other control or invisible character shown by its number. */
export function cleanText(value: unknown): string {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value : typeof value === "object" ? JSON.stringify(value) : String(value);
  return text
    .toWellFormed()
    .replace(ESCAPE_SEQUENCE, "")
    .replace(LINE_BREAKS, "\n")
    .replace(CONTROL, shown)
    .replace(INVISIBLE, shown)
    .replace(MANY_MARKS, "$1");
}

/** The same on one line, cut in the middle when it is longer than anybody reads. */
export function cleanName(value: unknown, limit: number = NAME_LIMIT): string {
  const text = cleanText(value).replace(/\s+/g, " ").trim();
  const letters = [...text];
  if (letters.length <= limit) return text;
  const half = Math.floor((limit - 1) / 2);
  return `${letters.slice(0, half).join("")}\u2026${letters.slice(-half).join("")}`;
}

/** The first letters of a text, and whether there are more. */
export function beginning(text: string, limit: number): { text: string; more: boolean } {
  if (text.length <= limit) return { text, more: false };
  return { text: [...text.slice(0, limit)].join("").toWellFormed().replace(/\ufffd$/, ""), more: true };
}
