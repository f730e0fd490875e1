// The address keeps the whole view, and reads what Airflow puts into it.
import assert from "node:assert/strict";
import test from "node:test";
import { chartsQuery, emptyList, filtered, hashOf, idsOf, listQuery, pairsOf, queryOfScope, rowsQuery, scopeOf, viewOf } from "../src/address.ts";
import type { ListView, View } from "../src/address.ts";

const RUN = "manual__2026-11-27T10:00:00+00:00";

test("a plus of a run's id stays a plus, encoded or not, and what cannot be decoded stays as it is", () => {
  assert.deepEqual(pairsOf(`?dag_run_id=${RUN}&x=${encodeURIComponent(RUN)}&y=50%&z`), [["dag_run_id", RUN], ["x", RUN], ["y", "50%"], ["z", ""]]);
});

test("a tab's scope comes from the query or the hash, without the holes that Airflow left", () => {
  const wanted = { dag_id: "d", dag_run_id: RUN, task_id: "t" };
  assert.deepEqual(scopeOf(`?dag_id=d&dag_run_id=${RUN}&task_id=t&map_index={MAP_INDEX}`, ""), wanted);
  assert.deepEqual(scopeOf("", `#dag_id=d&dag_run_id=${RUN}&task_id=t&map_index=%7BMAP_INDEX%7D`), wanted);
  assert.deepEqual(scopeOf("", "#/?dag_id=d"), {});
  assert.deepEqual(scopeOf("?map_index=-1&dag_id={DAG_ID}", ""), { map_index: -1 });
  assert.deepEqual(scopeOf(queryOfScope(wanted), "#/"), wanted);
  assert.equal(idsOf(wanted), null);
  assert.deepEqual(idsOf({ ...wanted, map_index: 2 }), { ...wanted, map_index: 2 });
});

test("every view comes back from its hash", () => {
  const list: ListView = { ...emptyList(), q: "a&b=c #+%", open: "true", sort: "-spend", limit: 100, offset: 200 };
  list.filters.provider = ["nyx", "acme_runs:ACME"];
  list.filters.dag_id = ["d&1", "d 2"];
  list.filters.outcome = ["failed"];
  const views: View[] = [
    emptyList(),
    list,
    { page: "run", ids: { dag_id: "d", dag_run_id: RUN, task_id: "t", map_index: 7 }, q: "x", outcome: ["failed"], offset: 50 },
    { page: "charts", days: 90, provider: ["nyx"], dag_id: ["d"], task_id: ["t"] },
  ];
  for (const view of views) assert.deepEqual(viewOf(hashOf(view)), view);
  assert.equal(hashOf(emptyList()), "#/");
});

test("an address that is none gives the usual view, and no word that the server refuses", () => {
  for (const hash of ["", "#", "#/nowhere?x=1", "#/?sort=password&limit=7&offset=-3&open=maybe&outcome=won&phase=1&holds=x&verdict="]) {
    assert.deepEqual(viewOf(hash), emptyList());
  }
  assert.equal((viewOf(`#/?offset=999999999&q=${"x".repeat(999)}`) as ListView).offset, 1_000_000);
  assert.equal((viewOf(`#/?q=${"x".repeat(999)}`) as ListView).q.length, 200);
});

test("of phase and outcome one is set at a time, and another filter begins at the first page", () => {
  const phases = filtered({ ...emptyList(), offset: 50 }, "phase", ["paused"]);
  assert.equal(phases.offset, 0);
  const outcomes = filtered(phases, "outcome", ["failed"]);
  assert.deepEqual([outcomes.filters.phase, outcomes.filters.outcome], [[], ["failed"]]);
  assert.deepEqual(filtered(outcomes, "phase", []).filters.outcome, ["failed"]);
});

test("the server is asked for the view within the scope", () => {
  const view = emptyList();
  view.filters.dag_id = ["other"];
  view.filters.task_id = ["t"];
  assert.equal(
    listQuery(view, { dag_id: "d", dag_run_id: "r+1", map_index: 0 }),
    "limit=50&offset=0&sort=-began_at&dag_id=d&task_id=t&dag_run_id=r%2B1&map_index=0",
  );
  assert.equal(chartsQuery({ page: "charts", days: 30, provider: [], dag_id: ["x"], task_id: ["t"] }, { dag_id: "d" }), "days=30&dag_id=d&task_id=t");
  const run = { page: "run" as const, ids: { dag_id: "d", dag_run_id: "r", task_id: "t", map_index: -1 }, q: "", outcome: ["failed"], offset: 0 };
  assert.equal(rowsQuery(run, 50), "dag_id=d&dag_run_id=r&task_id=t&map_index=-1&limit=50&offset=0&outcome=failed");
});
