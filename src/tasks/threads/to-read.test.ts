import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { Disk, Extent, StatusExtent } from '../../disk/contract.ts'
import { type NbdServer, serveNbd } from '../../disk/nbd-server.ts'
import { PLAIN_CONFIG } from '../../image/config.ts'
import type { Digest, DomainId } from '../../image/ids.ts'
import { MemoryObjects } from '../../objects/memory.ts'
import { commitImage } from '../../store/capture.ts'
import { LocalWrapper } from '../../store/keys.ts'
import { newDiskIds } from '../../store/map.ts'
import { openRegionStore, type RegionStore } from '../../store/region.ts'
import { findToRead } from './to-read.ts'

const CHUNK_BYTES = 256 * 1024
const PIECE_BYTES = 4096
const DOMAIN = 'org-a' as DomainId
const never = () => new AbortController().signal

/** Every second piece of it holds data, and every second chunk has changed: as a database leaves a disk. */
function strewn(sizeBytes: number): Disk {
  const runs = <Run>(
    offset: number,
    lengthBytes: number,
    runBytes: number,
    make: (at: number, lengthBytes: number, isOdd: boolean) => Run,
  ): Run[] => {
    const found: Run[] = []
    for (let at = offset; at < offset + lengthBytes; ) {
      const number = Math.floor(at / runBytes)
      const end = Math.min(offset + lengthBytes, (number + 1) * runBytes)
      found.push(make(at, end - at, number % 2 === 1))
      at = end
    }
    return found
  }
  return {
    sizeBytes,
    read: async (_offset, lengthBytes) => Buffer.alloc(lengthBytes),
    extents: async (offset, lengthBytes) =>
      runs(offset, lengthBytes, PIECE_BYTES, (at, length, isOdd): Extent => {
        return { offset: at, lengthBytes: length, holds: isOdd ? 'data' : 'zero' }
      }),
    contexts: new Map([
      [
        'qemu:dirty-bitmap:x',
        async (offset: number, lengthBytes: number) =>
          runs(offset, lengthBytes, PIECE_BYTES, (at, length, isOdd): StatusExtent => {
            const isChanged = Math.floor(at / CHUNK_BYTES) % 4 === 1 && isOdd
            return { offset: at, lengthBytes: length, status: isChanged ? 1 : 0 }
          }),
      ],
    ]),
    close: async () => {},
  }
}

describe('what is to be read of a disk', () => {
  let folder: string
  let server: NbdServer
  let region: RegionStore
  const sizeBytes = 10 * 1024 ** 3
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'to-read-'))
    server = await serveNbd({
      listen: { socketPath: join(folder, 'disk.sock') },
      resolve: async () => strewn(sizeBytes),
    })
    region = await openRegionStore({
      objects: new MemoryObjects(),
      indexPath: ':memory:',
      wrapper: new LocalWrapper(new Uint8Array(32)),
    })
  })
  afterEach(async () => {
    region.close()
    await server.close()
    await rm(folder, { recursive: true })
  })

  const source = (baseline?: { digest: Digest }) => ({
    ...{ sizeBytes, bus: 'virtio-blk' as const, socketPath: join(folder, 'disk.sock') },
    ...{ exportName: 'a', mapName: 'a-map' },
    ...(baseline && {
      baseline: { ...baseline, diskIndex: 0, changes: { name: 'qemu:dirty-bitmap:x', most: 1 } },
    }),
  })
  const disk = () => ({ sizeBytes, chunkBytes: CHUNK_BYTES, ids: newDiskIds(sizeBytes, CHUNK_BYTES) })

  test('a disk in more than a million pieces is no reason to fail, nor one that has changed in as many', async () => {
    const whole = await findToRead(region, undefined, DOMAIN, source(), disk(), never())
    assert.ok(whole.runs.length > 400_000, `${whole.runs.length} runs`)
    await region.openSession('s', DOMAIN)
    const empty = { index: 0, bus: 'virtio-blk' as const, ...disk() }
    const { digest } = await commitImage(region, 's', {
      ...{ domain: DOMAIN, disks: [empty], config: PLAIN_CONFIG, parent: null, consistency: 'crash' },
      os: { type: 'linux', name: '' },
    })
    const { runs } = await findToRead(region, undefined, DOMAIN, source({ digest }), disk(), never())
    const isChanged = ({ offset }: { offset: number }) => Math.floor(offset / CHUNK_BYTES) % 4 === 1
    assert.ok(runs.length > 100_000 && runs.every(isChanged), `${runs.length} runs`)
    const pieces = Math.ceil(sizeBytes / (4 * CHUNK_BYTES)) * (CHUNK_BYTES / PIECE_BYTES / 2)
    assert.equal(runs.length, pieces)
  })
})
