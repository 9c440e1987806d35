import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { isErrno } from '../../src/host/tools/durable.ts'

const LOOK_MS = 1
const SECTOR_BYTES = 512
const LONG_AGO = new Date(0)

/** Files of the host that nobody may read, whatever a stranger's file says. */
export interface Canary {
  /** A pipe: whoever opens it for reading is seen, and would wait there for ever. */
  readonly pipe: string
  /** A file that would pass for a raw disk, full of `secret`. */
  readonly file: string
  readonly secret: string
  /** Throws if anybody has opened the one or read the other. */
  assertUnread(): Promise<void>
}

export async function newCanary(t: TestContext, folder: string): Promise<Canary> {
  const pipe = join(folder, 'canary.pipe')
  const file = join(folder, 'canary.raw')
  const secret = `CanaryOf${randomBytes(12).toString('hex')}`
  await promisify(execFile)('mkfifo', [pipe])
  await writeFile(file, Buffer.alloc(64 * SECTOR_BYTES, `${secret} `))
  let readerCount = 0
  let isOver = false
  const look = async () => {
    if (await hasReader(pipe)) readerCount++
  }
  const watch = (async () => {
    while (!isOver) {
      await look()
      await delay(LOOK_MS)
    }
  })()
  t.after(async () => {
    isOver = true
    await watch
  })
  const tellsReads = await doesTellReads(folder)
  if (!tellsReads)
    t.diagnostic('this file system does not keep times of access: of reads the pipe alone tells')
  await utimes(file, LONG_AGO, new Date())
  return {
    ...{ pipe, file, secret },
    async assertUnread() {
      await look()
      assert.equal(readerCount, 0, 'somebody opened the canary')
      if (tellsReads) assert.equal((await stat(file)).atimeMs, LONG_AGO.getTime(), 'somebody read the canary')
    },
  }
}

/** Only a pipe that somebody reads can be opened for writing without waiting. Source: fifo(7). */
export async function hasReader(pipe: string): Promise<boolean> {
  try {
    await (await open(pipe, constants.O_WRONLY | constants.O_NONBLOCK)).close()
    return true
  } catch (error) {
    if (isErrno(error, 'ENXIO')) return false
    throw error
  }
}

async function doesTellReads(folder: string): Promise<boolean> {
  const path = join(folder, 'read')
  await writeFile(path, 'x')
  await utimes(path, LONG_AGO, new Date())
  const handle = await open(path)
  await handle.read(Buffer.alloc(1))
  await handle.close()
  return (await stat(path)).atimeMs !== LONG_AGO.getTime()
}
