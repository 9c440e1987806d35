import { constants } from 'node:fs'
import { open, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { refuseFile } from '../disk/formats/contract.ts'
import { Fault } from '../image/fault.ts'
import type { RegionId } from '../image/ids.ts'
import { failAndCleanUp, setAvailable, setFailed } from './image-row.ts'
import { fetchFile } from './import-fetch.ts'
import { closeReaders, readFile } from './import-read.ts'
import { checkpointOf, type ImportInput, keepIdentity, receivedPlace, sessionsOf } from './import-sources.ts'
import { unpackFile } from './import-unpack.ts'
import type { TaskParts } from './parts.ts'
import type { StepContext, TaskDefinition } from './runner.ts'
import type { WrittenImage } from './store-jobs.ts'

/**
 * Size in bytes of a file of the import folder: a regular one and no link, so that no path leads out of the folder. Nothing
 * is held: which file is imported is settled when its task opens it first, and from then on another one of that name, or a
 * change of it, ends the import. Faults: 'absent' 'file', 'invalid' 'file'.
 */
export async function checkImportFile(directory: string, fileName: string): Promise<number> {
  const path = join(await realpath(directory), fileName)
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      const about = { subject: 'file', field: 'fileName', cause } as const
      if (cause.code === 'ELOOP') {
        const message = `'${fileName}' is a link, and links are not followed. Put the file itself into the import folder.`
        throw new Fault('invalid', message, about)
      }
      const message = `There is no file '${fileName}' in the import folder of the server. Put it there first.`
      throw new Fault('absent', message, about)
    },
  )
  try {
    const status = await file.stat()
    if (status.isFile() && status.size > 0) return status.size
    throw new Fault('invalid', `'${fileName}' is empty or no regular file. Put the file itself there.`, {
      ...{ subject: 'file', field: 'fileName' },
    })
  } finally {
    await file.close()
  }
}

/** From a file of others to an image. docs/imports.md. */
export function importImage(parts: TaskParts): TaskDefinition<ImportInput> {
  const { catalog, jobs, clock } = parts

  /** Of the file as it came, before anything is made of it. */
  async function checkSum(context: StepContext<ImportInput>): Promise<void> {
    const { checksum } = context.input
    if (checksum === undefined || checkpointOf(context).sha256 !== undefined) return
    const { algorithm, hex } = checksum
    const place = receivedPlace(parts, context)
    const sums = await context.within('bytes', () =>
      jobs.checksums(place, [...new Set([algorithm, 'sha256'] as const)], () => {}, context.signal),
    )
    if (sums[algorithm] !== hex) {
      throw refuseFile(
        'checksum',
        `The file's ${algorithm} is ${sums[algorithm]}, not the one given. It was damaged on its way, or is another file.`,
      )
    }
    await context.save({ sha256: sums.sha256 })
  }

  return {
    kind: 'import-image',
    // What waits for a place waits in the step that needs it.
    gate: 'none',
    steps: [
      {
        name: 'fetch',
        async run(context) {
          await keepIdentity(parts, context)
          await fetchFile(parts, context)
        },
      },
      { name: 'check', run: checkSum },
      { name: 'unpack', run: (context) => unpackFile(parts, context) },
      {
        name: 'read',
        async run(context) {
          if (context.checkpoint().made !== undefined) return
          const { made, learned } = await context.within('bytes', () => readFile(parts, context))
          await context.save({ made, learned })
        },
      },
      {
        name: 'release',
        async run(context) {
          const { id, row } = context
          await closeReaders(parts, id)
          // The image's own session is committed, and that is no session any more.
          for (const sessionId of sessionsOf(context)) await jobs.abort(row.regionId as RegionId, sessionId)
        },
      },
      {
        name: 'commit',
        async run(context) {
          const { made } = context.checkpoint() as { made: WrittenImage }
          await context.finish({ ...made }, (rows) =>
            setAvailable(rows, context.input.imageId, made, { consistency: 'crash' }, clock()),
          )
        },
      },
    ],
    async undo(context, reason) {
      const { input, id, row } = context
      const regionId = row.regionId as RegionId
      await failAndCleanUp(setFailed(catalog.rows, input.imageId, reason, clock()), [
        closeReaders(parts, id),
        ...sessionsOf(context).map((sessionId) => jobs.abort(regionId, sessionId)),
        jobs.release(regionId, input.imageId),
      ])
    },
  }
}
