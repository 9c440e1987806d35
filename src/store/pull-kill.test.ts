import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import type { Digest } from '../image/ids.ts'
import { assertHolds, captureDisks } from './disks.fixture.ts'
import { PAGE_BYTES } from './map.ts'
import { KILL_PACK_BYTES, killPull, openKillRegion } from './pull-kill.fixture.ts'
import { pullDisk, pullSeeds } from './pull-suite.ts'
import { TEST_DOMAIN } from './region.fixture.ts'
import { verifyRegion } from './verify.ts'

const DISK = pullDisk(pullSeeds(1, 160).map((seed) => 2 * seed + 1))
const OBJECTS_BYTES = PAGE_BYTES + 4096

type Way = 'packs' | 'chunks'
/** What is on its way at once: a little more than so many packs where they are taken whole, as they are a little above their size. */
const LOST_BYTES_MAX = { chunks: KILL_PACK_BYTES, packs: 3.3 * KILL_PACK_BYTES }

/** Kills the copy when it has asked for so much; answers how much that was by its own account. */
async function killAt(folder: string, digest: Digest, way: Way, bytes: number): Promise<number> {
  const script = join(import.meta.dirname, 'pull-kill.fixture.ts')
  const child = spawn(process.execPath, [script, folder, digest, way], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  let movedBytes = 0
  for await (const line of createInterface({ input: child.stdout })) {
    movedBytes = Number(line)
    if (movedBytes >= bytes) child.kill('SIGKILL')
  }
  const [, signal] = await ended
  assert.equal(signal, 'SIGKILL')
  return movedBytes
}

for (const [way, what, seed] of [
  ...[11, 35, 50, 62, 90].map((seed) => ['chunks', 'one pack', seed] as const),
  ...[35, 62].map((seed) => ['packs', 'three whole packs', seed] as const),
]) {
  test(`a copy killed at ${seed} %, and started again, moves at most ${what} twice`, async () => {
    const folder = await mkdtemp(join(tmpdir(), 'pull-kill-'))
    try {
      const source = await openKillRegion(folder, 'source')
      const { digest } = await captureDisks({
        region: source,
        sessionId: 's',
        domain: TEST_DOMAIN,
        disks: [DISK],
      })
      source.close()
      const first = await killAt(folder, digest, way, (DISK.bytes.length * seed) / 100)
      let begunBytes: number | undefined
      const rest = await killPull(folder, digest, way === 'packs', (_moved, doneBytes) => {
        begunBytes ??= doneBytes
      })
      const allBytes = DISK.bytes.length * 1.001 + OBJECTS_BYTES
      assert.ok(
        first + rest.bytesMoved <= allBytes + LOST_BYTES_MAX[way] + OBJECTS_BYTES,
        `${first} ${rest.bytesMoved}`,
      )
      assert.ok((begunBytes ?? 0) >= first - LOST_BYTES_MAX[way] - OBJECTS_BYTES, `${begunBytes} of ${first}`)
      const target = await openKillRegion(folder, 'target')
      await assertHolds(target, digest, [DISK])
      assert.deepEqual((await verifyRegion({ region: target, deep: true })).problems, [])
      assert.deepEqual(target.listSessions(), [])
      target.close()
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
}
