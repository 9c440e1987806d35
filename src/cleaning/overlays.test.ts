import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { openNbd } from '../disk/nbd-client.ts'
import { findProcess } from '../host/tools/processes.ts'
import { isFault } from '../image/fault.ts'
import { Overlays } from './overlays.ts'
import { type Ground, ground, MIB, NTFS, never } from './toy-ground.fixture.ts'

const CHANGED = Buffer.alloc(MIB, 7)

async function changed(t: TestContext, diskCount = 1) {
  const at = await ground(
    t,
    Array.from({ length: diskCount }, () => [NTFS]),
  )
  const overlays = new Overlays(at)
  t.after(() => overlays.closeAll())
  const disks = await overlays.open('k1', at.sources, never)
  for (const disk of disks) {
    const client = await openNbd(disk)
    // Scattered, so that the tables of the layer are more than one.
    for (let offset = 0; offset < 5 * MIB; offset += MIB)
      await client.write(offset, CHANGED.subarray(0, 65536))
    await client.close()
  }
  return { at, overlays, disks }
}

test('what was changed is there once it is frozen, and nothing is left after the end', async (t) => {
  const { at, overlays, disks } = await changed(t, 3)
  for (const disk of await overlays.freeze(disks, at.sources, never)) {
    const client = await openNbd(disk)
    assert.ok(client.readOnly)
    for (let offset = 0; offset < 5 * MIB; offset += MIB)
      assert.ok((await client.read(offset, 65536)).equals(CHANGED.subarray(0, 65536)))
    await client.close()
  }
  await overlays.close('k1')
  await at.assertNothingLeft()
})

test('a layer whose server died with changes is no cleaned disk', async (t) => {
  const { at, overlays, disks } = await changed(t)
  const pid = await findProcess(`${disks[0]?.socketPath}.pid`)
  assert.ok(pid)
  process.kill(pid, 'SIGKILL')
  await assert.rejects(overlays.freeze(disks, at.sources, never), (error) => isFault(error, 'unavailable'))
  await overlays.close('k1')
  await at.assertNothingLeft()
})

test('a cancel does not wait for a server that stands still', async (t) => {
  const { at, overlays, disks } = await changed(t)
  const pid = await findProcess(`${disks[0]?.socketPath}.pid`)
  assert.ok(pid)
  process.kill(pid, 'SIGSTOP')
  const cancel = new AbortController()
  const frozen = overlays.freeze(disks, at.sources, cancel.signal)
  const reason = new Error('enough')
  setImmediate(() => cancel.abort(reason))
  await assert.rejects(frozen, reason)
  await overlays.close('k1')
  await at.assertNothingLeft()
})

test('a server that waits for its source, and has told nobody of itself, goes with the others', async (t) => {
  const at = await ground(t, [[NTFS]])
  const slow = await slowSource(t, at)
  const overlays = new Overlays(at)
  const opening = overlays.open('k1', [slow], never)
  opening.catch(() => {})
  while ((await starting(at)).length === 0) await delay(10)
  assert.ok(!(await readdir(at.runDirectory)).some((name) => name.endsWith('.pid')))
  // As after a start: what began it is not asked.
  await new Overlays(at).closeAll()
  assert.deepEqual(await starting(at), [])
  await assert.rejects(opening, (error) => isFault(error, 'unavailable'))
  await overlays.closeAll()
  await at.assertNothingLeft()
})

/** Answers the first connection, which asks whether it is there, and no other. */
async function slowSource(t: TestContext, { sources: [source], runDirectory }: Ground) {
  assert.ok(source)
  const socketPath = join(runDirectory, '..', 'slow')
  let count = 0
  const server = createServer((down) => {
    down.on('error', () => {})
    if (count++ > 0) return
    const up = connect(source.socketPath).on('error', () => {})
    down.pipe(up).pipe(down)
  })
  await new Promise<void>((resolve) => server.listen(socketPath, resolve))
  t.after(() => server.close())
  return { ...source, socketPath }
}

async function starting({ runDirectory }: Ground): Promise<string[]> {
  const lines: string[] = []
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (line.includes(`--pid-file=${runDirectory}/`)) lines.push(line)
  }
  return lines
}
