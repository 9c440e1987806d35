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
    // 2 is FULL: a commit is on the disk before it resolves.
    assert.deepEqual(await read('synchronous'), [2])
  }))

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
