import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { sql } from 'kysely'
import type { Catalog, Rows } from './contract.ts'
import { migrations } from './migrations.ts'

/** A place that keeps rows from one opening to the next. */
export interface CatalogPlace {
  open(): Promise<Catalog>
  remove(): Promise<void>
}

const project = (id: string, name: string) => ({
  id,
  accountId: 'account-1',
  name,
  isDefault: 0,
  createdAtMs: 1_785_585_600_000,
})
const namesIn = async (rows: Rows) =>
  (await rows.selectFrom('project').select('name').orderBy('name').execute()).map(({ name }) => name)

/** What every implementation of `Catalog` owes. */
export function catalogSuite(name: string, make: () => Promise<CatalogPlace>): void {
  const run = (title: string, body: (catalog: Catalog, place: CatalogPlace) => Promise<void>) =>
    test(title, async () => {
      const place = await make()
      try {
        const catalog = await place.open()
        try {
          await body(catalog, place)
        } finally {
          await catalog.close()
        }
      } finally {
        await place.remove()
      }
    })

  describe(name, () => {
    run('text and numbers come back as they were written', async ({ rows }) => {
      const text = '杭州 \u{1f4f7} \'quoted\' "twice" \\ \n {"json":[1,null]}'
      await rows
        .insertInto('project')
        .values({ ...project('org-1', text), createdAtMs: Number.MAX_SAFE_INTEGER })
        .execute()
      const row = await rows.selectFrom('project').selectAll().executeTakeFirstOrThrow()
      assert.deepEqual(
        { ...row },
        {
          ...project('org-1', text),
          createdAtMs: Number.MAX_SAFE_INTEGER,
          quotaBytes: null,
          chargedAtQuotaBytes: null,
        },
      )
    })

    run('null stays null, and a column without it refuses it', async ({ rows }) => {
      const task = {
        id: 'task-1',
        parentId: null,
        kind: 'copy-image',
        projectId: 'org-1',
        regionId: 'hk',
        state: 'queued',
        step: '',
        input: '{}',
        checkpoint: '{}',
        output: '{}',
        imageId: null,
        snapshotId: null,
        machineId: null,
        faultKind: null,
        reason: null,
        doneBytes: 0,
        totalBytes: 0,
        movedBytes: 0,
        attemptCount: 0,
        cancelRequested: 0,
        createdAtMs: 1,
        startedAtMs: null,
        endedAtMs: null,
      }
      await rows.insertInto('task').values(task).execute()
      const byDefault = {
        ...{ savedBytes: 0, bytesPerSecond: null, progressAtMs: null, priority: 5, deadlineAtMs: null },
        ...{ lastReason: null, requestKey: null },
      }
      const kept = { ...(await rows.selectFrom('task').selectAll().executeTakeFirst()) }
      assert.deepEqual(kept, { ...task, ...byDefault })
      await assert.rejects(
        sql`update ${sql.table('task')} set ${sql.ref('step')} = null`.execute(rows),
        /null/i,
      )
    })

    run('a transaction is seen whole once it resolves, with the value of its work', async (catalog) => {
      const answer = await catalog.transaction(async (rows) => {
        await rows.insertInto('project').values(project('org-1', 'a')).execute()
        await rows.insertInto('project').values(project('org-2', 'b')).execute()
        return 'made'
      })
      assert.equal(answer, 'made')
      assert.deepEqual(await namesIn(catalog.rows), ['a', 'b'])
    })

    run('a transaction whose work throws leaves nothing, and throws the same', async (catalog) => {
      await catalog.rows.insertInto('project').values(project('org-0', 'before')).execute()
      const error = new Error('changed my mind')
      const work = catalog.transaction(async (rows) => {
        await rows.insertInto('project').values(project('org-1', 'a')).execute()
        await rows.updateTable('project').set({ name: 'changed' }).where('id', '=', 'org-0').execute()
        assert.deepEqual(await namesIn(rows), ['a', 'changed'])
        throw error
      })
      await assert.rejects(work, (thrown) => thrown === error)
      assert.deepEqual(await namesIn(catalog.rows), ['before'])
    })

    run('a statement that is refused takes its transaction with it', async (catalog) => {
      const work = catalog.transaction(async (rows) => {
        await rows.insertInto('project').values(project('org-1', 'a')).execute()
        await rows.insertInto('project').values(project('org-1', 'again')).execute()
      })
      await assert.rejects(work)
      assert.deepEqual(await namesIn(catalog.rows), [])
      await catalog.rows.insertInto('project').values(project('org-2', 'after')).execute()
      assert.deepEqual(await namesIn(catalog.rows), ['after'])
    })

    run('nobody sees the middle of a transaction', async (catalog) => {
      let leave = (): void => undefined
      const open = new Promise<void>((resolve) => {
        leave = resolve
      })
      let inside = (): void => undefined
      const written = new Promise<void>((resolve) => {
        inside = resolve
      })
      const work = catalog.transaction(async (rows) => {
        await rows.insertInto('project').values(project('org-1', 'half')).execute()
        inside()
        await open
        throw new Error('undone')
      })
      await written
      const seen = namesIn(catalog.rows)
      leave()
      await assert.rejects(work, /undone/)
      assert.deepEqual(await seen, [])
    })

    run('transactions that read, think and write lose no update', async (catalog) => {
      await catalog.rows
        .insertInto('nonce')
        .values({ keyId: 'k', nonce: 'counter', expiresAtMs: 0 })
        .execute()
      const addOne = () =>
        catalog.transaction(async (rows) => {
          const row = await rows.selectFrom('nonce').select('expiresAtMs').executeTakeFirstOrThrow()
          // The other transactions get their turn exactly here.
          await new Promise((resolve) => setImmediate(resolve))
          await rows
            .updateTable('nonce')
            .set({ expiresAtMs: row.expiresAtMs + 1 })
            .execute()
        })
      await Promise.all(Array.from({ length: 20 }, addOne))
      const row = await catalog.rows.selectFrom('nonce').select('expiresAtMs').executeTakeFirstOrThrow()
      assert.equal(row.expiresAtMs, 20)
    })

    run('two that each check before they write never both win', async (catalog) => {
      // Write skew: each would be right if the other were not there.
      const takeIfFree = (id: string) =>
        catalog.transaction(async (rows) => {
          const taken = await rows.selectFrom('project').select('id').where('isDefault', '=', 1).execute()
          await new Promise((resolve) => setImmediate(resolve))
          if (taken.length > 0) return false
          await rows
            .insertInto('project')
            .values({ ...project(id, id), isDefault: 1 })
            .execute()
          return true
        })
      const won = await Promise.all(['org-1', 'org-2', 'org-3'].map(takeIfFree))
      assert.equal(won.filter(Boolean).length, 1)
    })

    run('unique keys are unique: ids, names within an account, nonces of a key', async ({ rows }) => {
      const insert = (values: ReturnType<typeof project>) =>
        rows.insertInto('project').values(values).execute()
      await insert(project('org-1', 'a'))
      await assert.rejects(insert(project('org-1', 'b')), /unique|duplicate/i)
      await assert.rejects(insert(project('org-2', 'a')), /unique|duplicate/i)
      await insert({ ...project('org-2', 'a'), accountId: 'account-2' })
      const use = async (keyId: string, nonce: string) => {
        const result = await rows
          .insertInto('nonce')
          .values({ keyId, nonce, expiresAtMs: 1 })
          .onConflict((on) => on.columns(['keyId', 'nonce']).doNothing())
          .executeTakeFirst()
        return Number(result.numInsertedOrUpdatedRows)
      }
      assert.deepEqual(await Promise.all([use('k', 'n'), use('k', 'n'), use('other', 'n')]), [1, 0, 1])
    })

    run('audit records are numbered in the order they were written', async ({ rows }) => {
      const record = { atMs: 1, userId: 'u', door: 'native', action: 'a', resource: 'r', outcome: 'ok' }
      for (const requestId of ['one', 'two', 'three']) {
        await rows
          .insertInto('audit')
          .values({ ...record, requestId })
          .execute()
      }
      const kept = await rows.selectFrom('audit').select(['id', 'requestId']).orderBy('id').execute()
      assert.deepEqual(
        kept.map((row) => [Number(row.id), row.requestId]),
        [
          [1, 'one'],
          [2, 'two'],
          [3, 'three'],
        ],
      )
    })

    run('opened again it has its rows, and no migration runs twice', async (catalog, place) => {
      await catalog.rows.insertInto('project').values(project('org-1', 'kept')).execute()
      const numbers = async (rows: Rows) =>
        (await sql<{ number: number }>`select number from migration order by number`.execute(rows)).rows.map(
          (row) => Number(row.number),
        )
      const before = await numbers(catalog.rows)
      assert.deepEqual(
        before,
        migrations.map((_, index) => index + 1),
      )
      await catalog.close()
      const again = await place.open()
      try {
        assert.deepEqual(await namesIn(again.rows), ['kept'])
        assert.deepEqual(await numbers(again.rows), before)
      } finally {
        await again.close()
      }
    })
  })
}
