import type { Rows } from '../catalog/contract.ts'
import { Fault, isFault } from '../image/fault.ts'
import { type ImageId, newCore, type ProjectId, type RegionId, spellId } from '../image/ids.ts'
import { refuseAboveQuota, refuseWhenUsedUp } from '../tasks/quota.ts'
import { refuseWithoutRoom } from '../tasks/room.ts'
import type { Caller } from './contract.ts'
import type { Guard } from './guard.ts'
import { addImport, checkWish, importTarget } from './imports.ts'
import type { Parts } from './parts.ts'
import type { ImportWish, Transfers } from './transfer-contract.ts'
import { createReceiver } from './upload-parts.ts'
import { hashToken, newToken, noUpload, type UploadRow, uploadOf } from './upload-row.ts'

const badLength = (message: string) => new Fault('invalid', message, { subject: 'upload', reason: 'length' })

/** Files that come over HTTP in parts. `sweep` takes away what nobody went on with. */
export function createUploads(parts: Parts, guard: Guard): Transfers['uploads'] & { sweep(): Promise<void> } {
  const { catalog, clock, jobs, runner, transfers } = parts

  async function rowOf(token: string): Promise<UploadRow> {
    const row = await catalog.rows
      .selectFrom('upload')
      .selectAll()
      .where('tokenHash', '=', hashToken(token))
      .executeTakeFirst()
    if (row === undefined || row.expiresAtMs <= clock()) throw noUpload()
    return row
  }

  async function owned(
    where: { regionId: RegionId; projectId?: ProjectId | undefined; uploadId: string },
    projectId: ProjectId,
  ): Promise<UploadRow> {
    const row = await catalog.rows
      .selectFrom('upload')
      .selectAll()
      .where('id', '=', where.uploadId)
      .where('regionId', '=', where.regionId)
      .where('projectId', '=', projectId)
      .executeTakeFirst()
    if (row === undefined || row.expiresAtMs <= clock()) throw noUpload()
    return row
  }

  const find = (id: string): Promise<UploadRow | undefined> =>
    catalog.rows.selectFrom('upload').selectAll().where('id', '=', id).executeTakeFirst()

  /** The row first: from then on nobody goes on with it, and nothing is charged for it. */
  async function takeAway(row: UploadRow): Promise<void> {
    await receiver.stop(row.id)
    const gone = await catalog.rows
      .deleteFrom('upload')
      .where('id', '=', row.id)
      .where('state', '!=', 'received')
      .executeTakeFirst()
    if (gone.numDeletedRows === 0n) {
      const { imageId } = (await find(row.id)) ?? {}
      if (imageId === undefined || imageId === null) throw noUpload()
      const spelled = spellId('image', imageId as ImageId, 'native')
      const message = `It is image ${spelled} by now. Delete the image, if it is not wanted.`
      throw new Fault('conflict', message, { subject: 'upload' })
    }
    await jobs.abort(row.regionId as RegionId, row.id)
  }

  /** All of it is here: in the name of who asked for the upload, if that is still allowed. */
  async function finish(row: UploadRow): Promise<void> {
    const wish = JSON.parse(row.wish) as ImportWish
    const caller = JSON.parse(row.caller) as Caller
    await guard.change(caller, 'images.import', importTarget(wish, `upload/${row.id}`), async () => {
      const made = await catalog.transaction(async (rows) => {
        const fresh = await rows.selectFrom('upload').selectAll().where('id', '=', row.id).executeTakeFirst()
        if (fresh?.state !== 'receiving' || fresh.map === null) return undefined
        // What was reserved for the upload is the image's from now on.
        const { reservedBytes, offsetBytes: sizeBytes } = fresh
        await rows.updateTable('upload').set({ reservedBytes: 0 }).where('id', '=', row.id).execute()
        const from = { is: 'upload', sessionId: row.id, map: JSON.parse(fresh.map) } as const
        const about = { projectId: row.projectId as ProjectId, sizeBytes, reservedBytes }
        const added = await addImport(parts, rows, wish, from, about)
        await rows
          .updateTable('upload')
          .set({ state: 'received', ...added })
          .where('id', '=', row.id)
          .execute()
        return added
      })
      if (made !== undefined) runner.kick(made.taskId)
    })
  }

  const receiver = createReceiver(parts, { finish })

  async function refuseTooManyUploads(rows: Rows, projectId: ProjectId): Promise<void> {
    const open = await rows
      .selectFrom('upload')
      .select((q) => q.fn.countAll<number>().as('count'))
      .where('projectId', '=', projectId)
      .where('state', '=', 'receiving')
      .executeTakeFirstOrThrow()
    if (Number(open.count) < transfers.uploadsPerProjectMax) return
    throw new Fault(
      'full',
      `Project ${projectId} has ${transfers.uploadsPerProjectMax} uploads that are not finished. Finish or remove some.`,
      { subject: 'upload' },
    )
  }

  /** Not before its import has ended: by the row a collection knows that somebody needs what came. */
  async function forgetReceived({ id, taskId }: UploadRow): Promise<void> {
    await catalog.rows
      .deleteFrom('upload')
      .where('id', '=', id)
      .where((is) =>
        is.not(
          is.exists(
            is.selectFrom('task').select('id').where('id', '=', taskId).where('endedAtMs', 'is', null),
          ),
        ),
      )
      .execute()
  }

  return {
    create(caller, { lengthBytes, ...wish }) {
      return guard.change(caller, 'uploads.create', importTarget(wish, 'upload/*'), async (projectId) => {
        checkWish(wish)
        if (lengthBytes !== undefined && !(Number.isSafeInteger(lengthBytes) && lengthBytes > 0)) {
          throw badLength('An upload has at least one byte.')
        }
        if (lengthBytes !== undefined && lengthBytes > transfers.diskBytesMax) {
          throw badLength(`An upload has at most ${transfers.diskBytesMax} bytes here.`)
        }
        await refuseWithoutRoom(parts, wish.regionId, lengthBytes ?? 0)
        const { token, tokenHash } = newToken()
        const id = newCore()
        const nowMs = clock()
        const row: UploadRow = {
          ...{ id, tokenHash, projectId, regionId: wish.regionId, state: 'receiving', reason: null },
          ...{ wish: JSON.stringify(wish), caller: JSON.stringify(caller) },
          ...{ lengthBytes: lengthBytes ?? null, offsetBytes: 0, map: null, reservedBytes: lengthBytes ?? 0 },
          ...{ imageId: null, taskId: null, createdAtMs: nowMs, expiresAtMs: nowMs + transfers.uploadMs },
        }
        await catalog.transaction(async (rows) => {
          await refuseTooManyUploads(rows, projectId)
          if (lengthBytes === undefined) await refuseWhenUsedUp(rows, projectId)
          else await refuseAboveQuota(rows, projectId, lengthBytes)
          await rows.insertInto('upload').values(row).execute()
        })
        return { upload: uploadOf(row), token }
      })
    },

    async list(caller, where) {
      const projectId = await guard.admit(caller, 'uploads.list', { ...where, resource: 'upload/*' })
      const rows = await catalog.rows
        .selectFrom('upload')
        .selectAll()
        .where('regionId', '=', where.regionId)
        .where('projectId', '=', projectId)
        .where('expiresAtMs', '>', clock())
        .orderBy('createdAtMs', 'desc')
        .orderBy('id')
        .execute()
      return rows.map(uploadOf)
    },

    async get(caller, where) {
      const target = { ...where, resource: `upload/${where.uploadId}` }
      const projectId = await guard.admit(caller, 'uploads.list', target)
      return uploadOf(await owned(where, projectId))
    },

    remove(caller, where) {
      const target = { ...where, resource: `upload/${where.uploadId}` }
      return guard.change(caller, 'uploads.remove', target, async (projectId) => {
        await takeAway(await owned(where, projectId))
      })
    },

    async find(token) {
      return uploadOf(await rowOf(token))
    },

    async receive(token, part, signal) {
      await receiver.receive(await rowOf(token), part, signal)
      return uploadOf(await rowOf(token))
    },

    async abandon(token) {
      const row = await rowOf(token)
      const caller = JSON.parse(row.caller) as Caller
      const target = { regionId: row.regionId, resource: `upload/${row.id}` }
      await guard.witness(caller, 'uploads.remove', target, () => takeAway(row))
    },

    async sweep() {
      const over = await catalog.rows
        .selectFrom('upload')
        .selectAll()
        .where('expiresAtMs', '<=', clock())
        .execute()
      for (const row of over) {
        if (row.state === 'received') {
          await forgetReceived(row)
          continue
        }
        await takeAway(row).catch((error: unknown) => {
          if (!isFault(error)) throw error
        })
      }
      await catalog.rows.deleteFrom('download').where('expiresAtMs', '<=', clock()).execute()
    },
  }
}
