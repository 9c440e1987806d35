import { randomInt, randomUUID } from 'node:crypto'
import type { Catalog } from '../catalog/contract.ts'
import type { ProjectId } from '../image/ids.ts'
import { newProjectId } from './projects.ts'
import { newAccessKey } from './users.ts'

export interface RootKey {
  readonly keyId: string
  readonly secret: string
}

/** A 16-digit number, as both clouds' accounts have. */
function newAccountId(): string {
  return `${randomInt(1, 10)}${String(randomInt(10 ** 14)).padStart(15, '0')}`
}

/**
 * The account, its root user and its default project, made when the catalog has none; then the one key of the root
 * user: the one given, which replaces every other, else the one there is, else a new one. May run twice.
 */
export async function ensureRoot(
  catalog: Catalog,
  given: RootKey | undefined,
  nowMs: number,
  /** What the default project is to be, where the catalog was lost and others know of it. */
  project: { readonly id: ProjectId; readonly name: string } = { id: newProjectId(), name: 'default' },
): Promise<RootKey> {
  return catalog.transaction(async (rows) => {
    let root = await rows.selectFrom('user').select('id').where('isRoot', '=', 1).executeTakeFirst()
    if (root === undefined) {
      const accountId = newAccountId()
      const projectId = project.id
      root = { id: randomUUID() }
      await rows.insertInto('account').values({ id: accountId, name: 'main', createdAtMs: nowMs }).execute()
      await rows
        .insertInto('project')
        .values({ id: projectId, accountId, name: project.name, isDefault: 1, createdAtMs: nowMs })
        .execute()
      await rows
        .insertInto('user')
        .values({
          id: root.id,
          accountId,
          name: 'root',
          isRoot: 1,
          defaultProjectId: projectId,
          createdAtMs: nowMs,
        })
        .execute()
    }
    const kept = await rows
      .selectFrom('accessKey')
      .selectAll()
      .where('userId', '=', root.id)
      .where('isActive', '=', 1)
      .orderBy('createdAtMs')
      .executeTakeFirst()
    if (given === undefined && kept !== undefined) return { keyId: kept.id, secret: kept.secret }
    const key = given ?? newAccessKey()
    // Whoever gives a key replaces the ones before: a key that leaked is gone with the next start.
    await rows.updateTable('accessKey').set({ isActive: 0 }).where('userId', '=', root.id).execute()
    await rows
      .insertInto('accessKey')
      .values({ id: key.keyId, userId: root.id, secret: key.secret, isActive: 1, createdAtMs: nowMs })
      .onConflict((on) => on.column('id').doUpdateSet({ userId: root.id, secret: key.secret, isActive: 1 }))
      .execute()
    return key
  })
}
