// What may become a link, and where Airflow's own pages are.
import assert from "node:assert/strict";
import test from "node:test";
import { dagHref, safeHref, taskHref } from "../src/links.ts";

test("only plain web addresses become links", () => {
  assert.equal(safeHref("https://app.example/runs/1?x=<b>"), "https://app.example/runs/1?x=%3Cb%3E");
  assert.equal(safeHref("HTTP://app.example"), "http://app.example/");
  for (const address of [
    "javascript:alert(1)", "javascript://app.example/%0aalert(1)", "ftp://app.example/x", "blob:https://app.example/1", "ws://app.example/", " java\nscript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "//app.example/x",
    "/runs/1", "", "https://", "https://user:word@app.example/", "https://user@app.example/", null, 3, {}, `https://a/${"x".repeat(5000)}`,
  ]) assert.equal(safeHref(address), null, String(address).slice(0, 40));
});

test("Airflow's pages are found beside the page, whatever stands in their names", () => {
  const ids = { dag_id: "a/b", dag_run_id: "manual__2026-01-01T00:00:00+00:00", task_id: "t?#", map_index: -1 };
  assert.equal(
    taskHref("https://host/air/runops/", ids),
    "https://host/air/dags/a%2Fb/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00/tasks/t%3F%23",
  );
  assert.ok(taskHref("http://h/runops/", { ...ids, map_index: 3 }).endsWith("/mapped/3"));
  assert.equal(dagHref("http://h/runops/", "x y"), "http://h/dags/x%20y");
});
