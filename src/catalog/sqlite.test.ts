import assert from 'node:assert/strict'
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { sql } from 'kysely'
import type { Catalog } from './contract.ts'
import { openSqliteCatalog } from './sqlite.ts'
import { catalogSuite } from './suite.ts'

async function makePlace() {
  const folder = mkdtempSync(join(tmpdir(), 'calotype-catalog-'))
  const path = join(folder, 'catalog.sqlite')
  return {
    folder,
    path,
    open: () => openSqliteCatalog(path),
    remove: async () => rmSync(folder, { recursive: true }),
  }
}

catalogSuite('sqlite', makePlace)

async function inPlace(
  body: (catalog: Catalog, place: Awaited<ReturnType<typeof makePlace>>) => Promise<void>,
): Promise<void> {
  const place = await makePlace()
  const catalog = await place.open()
  try {
    await body(catalog, place)
  } finally {
    await catalog.close()
    await place.remove()
  }
}

test('the schema is the golden one: a change of it is a new migration', () =>
  inPlace(async ({ rows }) => {
    const { rows: made } = await sql<{ sql: string }>`
      select sql from sqlite_master where sql is not null and name not like 'sqlite_%' order by name
    `.execute(rows)
    const golden = readFileSync(new URL('golden/schema.sql', import.meta.url), 'utf8')
    assert.equal(`${made.map((row) => `${row.sql};`).join('\n')}\n`, golden)
  }))

test('a write that has resolved is in the files, with nobody closing them', () =>
  inPlace(async (catalog, { path }) => {
    await catalog.transaction(async (rows) => {
      await rows.insertInto('nonce').values({ keyId: 'k', nonce: 'n', expiresAtMs: 1 }).execute()
    })
    const copy = `${path}.copy`
    for (const end of ['', '-wal']) if (existsSync(path + end)) copyFileSync(path + end, copy + end)
    const other = await openSqliteCatalog(copy)
    try {
      assert.equal((await other.rows.selectFrom('nonce').selectAll().execute()).length, 1)
    } finally {
      await other.close()
    }
  }))

test('its files are for their owner alone: they hold secrets', () =>
  inPlace(async (catalog, { path }) => {
    await catalog.rows.insertInto('nonce').values({ keyId: 'k', nonce: 'n', expiresAtMs: 1 }).execute()
    for (const end of ['', '-wal', '-shm']) assert.equal(statSync(path + end).mode & 0o777, 0o600, end)
  }))

test('it is kept as a crash of the machine needs it', () =>
  inPlace(async ({ rows }) => {
    const read = async (pragma: string) =>
      Object.values(
        (await sql<Record<string, unknown>>`${sql.raw(`pragma ${pragma}`)}`.execute(rows)).rows[0] ?? {},
      )
    assert.deepEqual(await read('journal_mode'), ['wal'])
    // 1 is NORMAL: SQLite syncs what it moves out of the log, and we the log itself before a commit resolves.
    assert.deepEqual(await read('synchronous'), [1])
  }))

/** A catalog whose log is durable when the test says so. */
async function withHeldSync(
  body: (
    catalog: Catalog,
    syncs: PromiseWithResolvers<void>[],
    settled: <T>(one: Promise<T>) => () => boolean,
  ) => Promise<void>,
): Promise<void> {
  const place = await makePlace()
  const syncs: PromiseWithResolvers<void>[] = []
  const catalog = await openSqliteCatalog(place.path, () => {
    const one = Promise.withResolvers<void>()
    syncs.push(one)
    return one.promise
  })
  const settled = <T>(promise: Promise<T>) => {
    let is = false
    const end = () => {
      is = true
    }
    promise.then(end, end)
    return () => is
  }
  try {
    await body(catalog, syncs, settled)
  } finally {
    for (const { resolve } of syncs) resolve()
    await catalog.close()
    await place.remove()
  }
}

const someTurns = async () => {
  for (let i = 0; i < 10; i++) await new Promise(setImmediate)
}
const nonce = (keyId: string) => ({ keyId, nonce: 'n', expiresAtMs: 1 })

test('a write resolves once it is durable, one sync for all that were committed before it began', () =>
  withHeldSync(async ({ rows, transaction }, syncs, settled) => {
    const first = settled(rows.insertInto('nonce').values(nonce('a')).execute())
    await someTurns()
    const others = [
      settled(rows.insertInto('nonce').values(nonce('b')).execute()),
      settled(transaction((within) => within.insertInto('nonce').values(nonce('c')).execute())),
      settled(transaction((within) => within.insertInto('nonce').values(nonce('d')).execute())),
    ]
    await someTurns()
    assert.equal(syncs.length, 1)
    assert.deepEqual(
      [first, ...others].map((is) => is()),
      [false, false, false, false],
    )
    syncs[0]?.resolve()
    await someTurns()
    assert.deepEqual(
      [first, ...others].map((is) => is()),
      [true, false, false, false],
    )
    assert.equal(syncs.length, 2)
    syncs[1]?.resolve()
    await someTurns()
    assert.deepEqual(
      others.map((is) => is()),
      [true, true, true],
    )
    await rows.selectFrom('nonce').selectAll().execute()
    assert.equal(syncs.length, 2)
  }))

test('nothing is told that a crash could take back, to whoever reads, is refused or changes his mind', () =>
  withHeldSync(async ({ rows, transaction }, syncs, settled) => {
    const write = settled(rows.insertInto('nonce').values(nonce('a')).execute())
    await someTurns()
    const told = [
      settled(rows.selectFrom('nonce').selectAll().execute()),
      settled(transaction((within) => within.selectFrom('nonce').selectAll().execute())),
      settled(transaction((within) => within.insertInto('nonce').values(nonce('a')).execute())),
      settled(rows.insertInto('nonce').values(nonce('a')).execute()),
      settled(
        transaction(async (within) => {
          await within.insertInto('nonce').values(nonce('b')).execute()
          throw new Error('changed his mind')
        }),
      ),
    ]
    await someTurns()
    assert.deepEqual(
      [write, ...told].map((is) => is()),
      Array(6).fill(false),
    )
    syncs[0]?.resolve()
    await someTurns()
    assert.deepEqual(
      [write, ...told].map((is) => is()),
      Array(6).fill(true),
    )
    assert.equal(syncs.length, 1)
    assert.deepEqual(
      (await rows.selectFrom('nonce').select('keyId').execute()).map(({ keyId }) => keyId),
      ['a'],
    )
  }))

test('after a failed sync nothing is called durable any more, and nothing is committed', async () => {
  const place = await makePlace()
  try {
    const catalog = await openSqliteCatalog(place.path, () => Promise.reject(new Error('EIO')))
    const { rows, transaction } = catalog
    const unavailable = { name: 'Fault', kind: 'unavailable' }
    await assert.rejects(rows.insertInto('nonce').values(nonce('a')).execute(), unavailable)
    await assert.rejects(
      transaction((within) => within.insertInto('nonce').values(nonce('b')).execute()),
      unavailable,
    )
    await assert.rejects(rows.insertInto('nonce').values(nonce('c')).execute(), unavailable)
    await assert.rejects(rows.selectFrom('nonce').selectAll().execute(), unavailable)
    await catalog.close()
    const again = await place.open()
    const found = await again.rows.selectFrom('nonce').select('keyId').execute()
    // Of the one that was committed before its sync failed nobody knows.
    assert.deepEqual(
      found.map(({ keyId }) => keyId),
      ['a'],
    )
    await again.close()
  } finally {
    await place.remove()
  }
})

test('a full disk is a fault of kind full, and the catalog goes on once there is room', () =>
  inPlace(async ({ rows, transaction }) => {
    const limitPages = (count: number) => sql`${sql.raw(`pragma max_page_count = ${count}`)}`.execute(rows)
    const fill = () =>
      transaction(async (within) => {
        const nonce = 'n'.repeat(100_000)
        for (let i = 0; i < 100; i++) {
          await within
            .insertInto('nonce')
            .values({ keyId: `${i}`, nonce, expiresAtMs: 1 })
            .execute()
        }
      })
    await limitPages(200)
    await assert.rejects(fill(), { name: 'Fault', kind: 'full' })
    assert.deepEqual(await rows.selectFrom('nonce').selectAll().execute(), [])
    await limitPages(100_000)
    await fill()
    assert.equal((await rows.selectFrom('nonce').select('keyId').execute()).length, 100)
  }))

test('statements that are kept see what has changed of the schema, and more than are kept work as well', () =>
  inPlace(async ({ rows }) => {
    await sql`create table shelf (number integer)`.execute(rows)
    const all = async () =>
      (await sql<object>`select * from shelf`.execute(rows)).rows.map((row) => ({ ...row }))
    await sql`insert into shelf values (1)`.execute(rows)
    assert.deepEqual(await all(), [{ number: 1 }])
    await sql`alter table shelf add column name text default 'x'`.execute(rows)
    assert.deepEqual(await all(), [{ number: 1, name: 'x' }])
    for (let i = 0; i < 300; i++) {
      const found = await sql<object>`select ${sql.raw(`${i}`)} as n from shelf`.execute(rows)
      assert.deepEqual({ ...found.rows[0] }, { n: i })
    }
    assert.deepEqual(await all(), [{ number: 1, name: 'x' }])
  }))

test('a catalog in memory, for tests, is as good', async () => {
  const catalog = await openSqliteCatalog(':memory:')
  await catalog.rows.insertInto('nonce').values({ keyId: 'k', nonce: 'n', expiresAtMs: 1 }).execute()
  assert.equal((await catalog.rows.selectFrom('nonce').selectAll().execute()).length, 1)
  await catalog.close()
})

test('a catalog of a later version is refused, and its file let go', () =>
  inPlace(async (catalog, { path }) => {
    await sql`insert into migration (number, at_ms) values (1000, 0)`.execute(catalog.rows)
    await assert.rejects(openSqliteCatalog(path), /written by a newer version/)
  }))
