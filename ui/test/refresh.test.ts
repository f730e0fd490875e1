// The page asks only while it is seen, and more rarely when that fails.
import assert from "node:assert/strict";
import test from "node:test";
import { EVERY_MS, LONGEST_MS, nextDelay, Poller } from "../src/refresh.ts";
import type { Host } from "../src/refresh.ts";

class FakeHost implements Host {
  seen = true;
  time = 0;
  timers = new Map<number, { at: number; run: () => void }>();
  private next = 1;

  visible = (): boolean => this.seen;
  now = (): number => this.time;
  setTimer = (run: () => void, milliseconds: number): number => {
    this.timers.set(this.next, { at: this.time + milliseconds, run });
    return this.next++;
  };
  clearTimer = (timer: number): void => void this.timers.delete(timer);

  async pass(milliseconds: number): Promise<void> {
    this.time += milliseconds;
    for (const [timer, { at, run }] of [...this.timers]) {
      if (at > this.time) continue;
      this.timers.delete(timer);
      run();
    }
    await settled();
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function world(answers: (() => Promise<string>)[] = []) {
  const host = new FakeHost();
  const asked: AbortSignal[] = [];
  const poller = new Poller<string>(host, () => undefined, (error) => (error as { wait?: number }).wait ?? null, (error) => (error as { final?: boolean }).final === true);
  const load = (signal: AbortSignal): Promise<string> => {
    asked.push(signal);
    return (answers.shift() ?? (async () => "fine"))();
  };
  return { host, asked, poller, load };
}

test("it asks at once, and then again and again while it is seen", async () => {
  const { host, asked, poller, load } = world();
  poller.show("a", load, false);
  await settled();
  assert.equal(poller.shown.data, "fine");
  for (let turn = 0; turn < 3; turn += 1) await host.pass(EVERY_MS);
  assert.equal(asked.length, 4);
});

test("hidden or paused it asks nothing; back in sight it asks at once what is overdue", async () => {
  const { host, asked, poller, load } = world();
  poller.show("a", load, false);
  await settled();
  host.seen = false;
  poller.visibilityChanged();
  await host.pass(10 * EVERY_MS);
  assert.equal(asked.length, 1);
  host.seen = true;
  poller.visibilityChanged();
  await host.pass(0);
  assert.equal(asked.length, 2);
  poller.pause(true);
  await host.pass(10 * EVERY_MS);
  assert.equal(asked.length, 2);
  poller.refresh();
  await settled();
  assert.equal(asked.length, 3);
});

test("after errors it waits longer, keeps what it has, and is quick again after an answer", async () => {
  const fail = async (): Promise<string> => { throw new Error("down"); };
  const { host, asked, poller, load } = world([async () => "first", fail, fail]);
  poller.show("a", load, false);
  await settled();
  await host.pass(EVERY_MS);
  assert.deepEqual([poller.shown.data, poller.shown.error instanceof Error], ["first", true]);
  await host.pass(EVERY_MS);
  assert.equal(asked.length, 2);
  await host.pass(EVERY_MS);
  assert.equal(asked.length, 3);
  await host.pass(4 * EVERY_MS);
  assert.deepEqual([poller.shown.data, poller.shown.error, asked.length], ["fine", null, 4]);
  await host.pass(EVERY_MS);
  assert.equal(asked.length, 5);
});

test("what the server asks to wait is kept, and what will not change is asked for rarely", async () => {
  const { host, asked, poller, load } = world([() => Promise.reject({ wait: 60 }), () => Promise.reject({ final: true })]);
  poller.show("a", load, false);
  await settled();
  await host.pass(59_000);
  assert.equal(asked.length, 1);
  await host.pass(1_000);
  assert.equal(asked.length, 2);
  await host.pass(LONGEST_MS - 1);
  assert.equal(asked.length, 2);
  assert.deepEqual([nextDelay(0, null), nextDelay(2, null), nextDelay(99, null), nextDelay(0, 400)], [EVERY_MS, 4 * EVERY_MS, LONGEST_MS, 400_000]);
});

test("a late answer to an earlier request is not shown", async () => {
  let late: (text: string) => void = () => undefined;
  const { asked, poller, load } = world([() => new Promise((resolve) => { late = resolve; }), async () => "new"]);
  poller.show("a", load, false);
  poller.show("a", load, false);
  assert.equal(asked[0]?.aborted, true);
  await settled();
  late("old");
  await settled();
  assert.equal(poller.shown.data, "new");
});
