import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Fault } from '../../image/fault.ts'
import { never } from '../suite.ts'
import { startDaemon } from './daemon.ts'
import { fileFault, findText } from './durable.ts'
import { runTool } from './run.ts'

/** The message may go to a tenant; the log gets the path. */
function tellsNoPath(folder: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Fault)
    assert.ok(!error.message.includes('/'), error.message)
    assert.match(error.message, /\. |, then /)
    let whole = ''
    for (let cause = error.cause; cause instanceof Error; cause = cause.cause) whole += cause.message
    assert.ok(whole.includes(folder), whole)
    return true
  }
}

test('no message of a failed file or program names a path of the host', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'calotype-words-'))
  t.after(() => rm(folder, { recursive: true }))
  await assert.rejects(findText(folder), tellsNoPath(folder))
  for (const code of ['EACCES', 'EPERM', 'EROFS', 'EIO', 'EMFILE', 'ENFILE', 'ENOTDIR', 'ENOSPC']) {
    const error = Object.assign(new Error(`${code}: open '${folder}'`), { code })
    assert.ok(tellsNoPath(folder)(fileFault(error, 'Trying')))
  }
  const options = { doing: 'Trying', package: 'qemu-utils', timeoutMs: 30_000 }
  await assert.rejects(runTool('qemu-img', ['info', join(folder, 'none')], options), tellsNoPath(folder))
  await assert.rejects(
    startDaemon('qemu-nbd', [join(folder, 'none')], {
      ...options,
      errorPath: join(folder, 'errors'),
      signal: never(),
      isReady: async () => false,
    }),
    tellsNoPath(folder),
  )
  await assert.rejects(readFile(join(folder, 'none')), (error) => fileFault(error, 'Trying') === error)
})
