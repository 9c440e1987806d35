import { createHash } from 'node:crypto'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import type { Connection } from './connection.ts'
import type { Io } from './io.ts'
import type { UploadFile } from './upload-source.ts'

/** An upload as its sender knows it. */
export interface UploadPlace {
  readonly uploadId: string
  /** With the token in it: whoever knows it may send, so it is kept for its owner alone and never printed. */
  readonly path: string
}

/** What is remembered of an upload, so that the same command goes on with it after whatever ended it. */
export interface UploadNotes {
  find(): Promise<UploadPlace | undefined>
  keep(place: UploadPlace): Promise<void>
  forget(): Promise<void>
}

const KEPT_MS_MAX = 30 * 24 * 3_600_000

/** For what cannot be sent a second time. */
export const NO_NOTES: UploadNotes = {
  find: async () => undefined,
  keep: async () => {},
  forget: async () => {},
}

/**
 * One file for each command: the same server, key, wish, and content of the file. Where it cannot be written, the upload goes
 * on without, and says so.
 */
export function openUploadNotes(io: Io, connection: Connection, file: UploadFile, wish: object): UploadNotes {
  const { XDG_STATE_HOME: stateHome, HOME: home } = io.environment
  // A relative one counts as none. Source: XDG Base Directory Specification 0.8.
  const state =
    stateHome !== undefined && isAbsolute(stateHome) ? stateHome : join(home || homedir(), '.local', 'state')
  const folder = join(state, 'calotype', 'uploads')
  const key = JSON.stringify([connection.endpoint.origin, connection.keyId, file.mark, wish])
  const path = join(folder, `${createHash('sha256').update(key).digest('hex').slice(0, 32)}.json`)
  return {
    async find() {
      const { readFile } = await import('node:fs/promises')
      try {
        const value = JSON.parse(await readFile(path, 'utf8')) as Partial<UploadPlace> | null
        const isWhole = typeof value?.uploadId === 'string' && typeof value.path === 'string'
        return isWhole ? (value as UploadPlace) : undefined
      } catch {
        return undefined
      }
    },
    async keep(place) {
      const { mkdir, rename, writeFile } = await import('node:fs/promises')
      try {
        await mkdir(folder, { recursive: true, mode: 0o700 })
        await removeOld(folder)
        const made = `${path}.${process.pid}`
        await writeFile(made, JSON.stringify(place), { mode: 0o600 })
        await rename(made, path)
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        io.stderr.write(
          `Cannot write to ${folder} (${code}): should this break off, it begins again from the start.\n`,
        )
      }
    },
    async forget() {
      const { rm } = await import('node:fs/promises')
      await rm(path, { force: true }).catch(() => {})
    },
  }
}

/** Of uploads that nobody went on with; the server has long dropped them. */
async function removeOld(folder: string): Promise<void> {
  const { readdir, rm, stat } = await import('node:fs/promises')
  for (const name of await readdir(folder)) {
    const path = join(folder, name)
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Date.now() }))
    if (mtimeMs < Date.now() - KEPT_MS_MAX) await rm(path, { force: true })
  }
}
