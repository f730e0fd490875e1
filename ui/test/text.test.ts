// Texts of strangers come out harmless.
import assert from "node:assert/strict";
import test from "node:test";
import { beginning, cleanName, cleanText } from "../src/text.ts";

test("terminal colours and titles are taken out", () => {
  assert.equal(cleanText("\u001b[1;31mred\u001b[0m and \u001b]0;title\u0007plain\u001b(B"), "red and plain");
  assert.equal(cleanText("\u009b31mred"), "red");
});

test("control characters are shown, but line feed and tab, and every line break is a line feed", () => {
  assert.equal(cleanText("a\u0000b\u0008c\u007f\td"), "a[U+0000]b[U+0008]c[U+007F]\td");
  assert.equal(cleanText("a\r\nb\rc\u2028d\u0085e"), "a\nb\nc\nd\ne");
  assert.equal(cleanText("\u001b"), "[U+001B]");
});

test("what turns the direction or has no width is shown by its number", () => {
  assert.equal(cleanText("gpj.\u202eexe"), "gpj.[U+202E]exe");
  assert.equal(cleanText("a\u200bb\u2066c\ufeff"), "a[U+200B]b[U+2066]c[U+FEFF]");
  assert.equal(cleanText("x\u{e0041}"), "x[U+E0041]");
});

test("joiners that scripts and emoji need, and right-to-left letters, stay", () => {
  for (const text of ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u{1f469}\u200d\u{1f52c}", "\u05e9\u05dc\u05d5\u05dd"]) assert.equal(cleanText(text), text);
});

test("towers of marks are cut, half characters replaced", () => {
  assert.equal(cleanText(`a${"\u0301".repeat(50)}b`), `a${"\u0301".repeat(4)}b`);
  assert.equal(cleanText("a\ud800b"), "a\ufffdb");
});

test("what is no text is shown as one, and nothing as nothing", () => {
  assert.equal(cleanText(null), "");
  assert.equal(cleanText({ a: [1] }), '{"a":[1]}');
  assert.equal(cleanText(3.5), "3.5");
});

test("a name stands on one line and keeps both its ends", () => {
  assert.equal(cleanName("  a\n b  "), "a b");
  const long = cleanName(`begin${"x".repeat(10_000)}end`, 101);
  assert.equal([...long].length, 101);
  assert.ok(long.startsWith("begin") && long.endsWith("end") && long.includes("\u2026"));
});

test("the beginning of a text never ends in half a character", () => {
  assert.deepEqual(beginning("ab", 2), { text: "ab", more: false });
  assert.deepEqual(beginning("a\u{1f600}b", 2), { text: "a", more: true });
});
