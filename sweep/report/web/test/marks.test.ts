import assert from "node:assert/strict";
import { test } from "node:test";
import { Marks } from "../src/marks";
import type { Payload } from "../src/payload";
import { table } from "./results";

const live = { ratings: "ratings" } as Payload["live"];

/** Marks of a served page whose timers and requests the test ends itself. */
function served(): { marks: Marks; sent: string[]; fire: () => Promise<void>; answer: (ok: boolean) => Promise<void> } {
  const [sent, due, open]: [string[], (() => void)[], ((answer: { ok: boolean }) => void)[]] = [[], [], []];
  const settle = (): Promise<void> => new Promise((done) => void setImmediate(done));
  Object.assign(globalThis, {
    addEventListener: () => undefined,
    clearTimeout: () => due.splice(0),
    fetch: (_address: string, { body }: { body: string }) => (sent.push(body), new Promise((done) => open.push(done))),
    window: { setTimeout: (act: () => void) => due.push(act) },
  });
  const fire = async (): Promise<void> => (due.splice(0).forEach((act) => act()), settle());
  const answer = async (ok: boolean): Promise<void> => (open.shift()?.({ ok }), settle());
  return { marks: new Marks(table({ live }), () => undefined), sent, fire, answer };
}

test("a page sends what was changed of a mark: another page may have changed the rest", async () => {
  const { marks, sent, fire } = served();
  marks.set(0, { stars: 3 });
  marks.set(0, { note: "melted" });
  marks.set(1, { stars: 0 });
  await fire();
  assert.deepEqual(sent.map((body) => JSON.parse(body).ratings), [{ "key0.1": { stars: 3, note: "melted" }, "key1.1": { stars: null } }]);
});

test("what could not be sent is sent later, unless it was changed again", async () => {
  const { marks, sent, fire, answer } = served();
  marks.set(0, { stars: 3 });
  await fire();
  marks.set(0, { stars: 4 });
  await fire();
  assert.equal(sent.length, 1); // the first is still on its way
  await answer(false);
  await answer(false);
  marks.set(1, { rejected: true });
  await fire();
  assert.deepEqual(JSON.parse(sent.at(-1) ?? "").ratings, { "key0.1": { stars: 4 }, "key1.1": { rejected: true } });
});

test("a page that becomes the report keeps what it has not sent", async () => {
  const { marks, sent, fire } = served();
  marks.set(0, { stars: 3 });
  marks.table = table({ live });
  assert.equal(marks.of(0).stars, 3);
  await fire();
  assert.equal(sent.length, 1);
});

test("two pages of one file keep each other's ratings", () => {
  const kept = new Map<string, string>();
  let hear: (event: { key: string; newValue: string | null }) => void = () => undefined;
  Object.assign(globalThis, {
    addEventListener: (_name: string, act: typeof hear) => (hear = act),
    localStorage: { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, text: string) => kept.set(key, text) },
  });
  const other = new Marks(table(), () => undefined);
  other.set(0, { stars: 3 });
  other.set(1, { stars: 2 });
  const marks = new Marks(table(), () => undefined);
  other.set(1, { stars: 0 });
  other.set(2, { rejected: true });
  const [[key, newValue]] = [...kept] as [[string, string]];
  hear({ key, newValue });
  marks.set(3, { note: "melted" });
  assert.deepEqual(Object.keys(JSON.parse(kept.get(key) ?? "").ratings), ["key0.1", "key2.1", "key3.1"]);
});
