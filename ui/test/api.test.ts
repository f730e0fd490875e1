// What each way to fail says.
import assert from "node:assert/strict";
import test from "node:test";
import { failureOf, messageOf, retryAfterOf } from "../src/api.ts";

test("each status is a failure of its own", () => {
  assert.deepEqual([401, 403, 404, 409, 422, 429, 500, 503].map(failureOf), ["signed_out", "forbidden", "missing", "refused", "refused", "busy", "server", "server"]);
});

test("a message says what to do, and what the server says of a refusal, harmlessly", () => {
  assert.match(messageOf("signed_out", "Not authenticated", null), /Sign in again/);
  assert.equal(messageOf("refused", "The run\u001b[31m is over.", null), "The run is over.");
  assert.equal(messageOf("busy", "x", 4.2), "Too many requests for now. It can be asked again in 5 s.");
  assert.match(messageOf("forbidden", "no PUT", null), /no PUT/);
  assert.ok(messageOf("server", "x".repeat(10_000), null).length < 600);
});

test("Retry-After is seconds or a date", () => {
  assert.equal(retryAfterOf("5", 0), 5);
  assert.equal(retryAfterOf("Thu, 01 Jan 1970 00:00:09 GMT", 2000), 7);
  assert.equal(retryAfterOf("soon", 0), null);
  assert.equal(retryAfterOf(null, 0), null);
});
