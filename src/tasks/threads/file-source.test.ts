import assert from 'node:assert/strict'
import {
  appendFileSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { identityOf } from '../file-identity.ts'
import { diskOf, holdFile, piecesOf } from './file-source.ts'

describe('a file of the import folder', () => {
  let folder: string
  let path: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'calotype-files-'))
    path = join(folder, 'disk.raw')
    writeFileSync(path, Buffer.alloc(4096, 1))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  const { signal } = new AbortController()
  const identity = () => identityOf(statSync(path, { bigint: true }))
  const hold = (identity?: string) => holdFile({ is: 'file', path, identity }, undefined)
  const changed = { kind: 'conflict', subject: 'file', message: /changed or replaced while it was imported/ }

  test('is held as long as it is the one that was looked at', async () => {
    for (const known of [undefined, identity()]) {
      const file = await hold(known)
      assert.deepEqual(await file.read(0, 4096), Buffer.alloc(4096, 1))
      await file.refuseChanged?.()
      await file.close()
    }
  })

  test('gives a part of itself in pieces whose memory is used again', async () => {
    writeFileSync(path, Buffer.from(Uint8Array.from({ length: 4096 }, (_, index) => index >> 4)))
    const file = await hold(identity())
    const disk = diskOf(file, 1024, 2048)
    const first = await disk.pieces?.(0, 16)
    const second = await disk.pieces?.(16, 2032)
    assert.ok(first && second)
    assert.deepEqual(first, [{ lengthBytes: 16, bytes: new Uint8Array(16).fill(64) }])
    assert.deepEqual(Buffer.from(second[0]?.bytes ?? []), await disk.read(16, 2032))
    disk.sent?.(first)
    const third = await disk.pieces?.(2047, 1)
    assert.equal(third?.[0]?.bytes?.buffer, first[0]?.bytes?.buffer)
    await file.close()
  })

  test('that is cut while it is served is a fault of the file', async () => {
    const file = await hold(identity())
    truncateSync(path, 100)
    assert.throws(() => file.pieces?.(0, 4096), { kind: 'unavailable', subject: 'file' })
    await file.close()
  })

  test('is not another one of its name, also of the same bytes, size and time', async () => {
    const known = identity()
    const { atime, mtime } = statSync(path)
    writeFileSync(`${path}.other`, Buffer.alloc(4096, 1))
    utimesSync(`${path}.other`, atime, mtime)
    renameSync(`${path}.other`, path)
    await assert.rejects(hold(known), changed)
  })

  test('is not the same once it was written to, whatever its time says', async () => {
    const known = identity()
    const { atime, mtime } = statSync(path)
    writeFileSync(path, Buffer.alloc(4096, 2), { flag: 'r+' })
    utimesSync(path, atime, mtime)
    await assert.rejects(hold(known), changed)
  })

  test('that grows while it is read is refused at its end, and one whose name is taken away is not', async () => {
    const read = async (between: () => void) => {
      const file = await hold(identity())
      try {
        let bytes = 0
        for await (const piece of piecesOf(file, signal, 1024)) {
          if (bytes === 0) between()
          bytes += piece.length
        }
        return bytes
      } finally {
        await file.close()
      }
    }
    await assert.rejects(
      read(() => appendFileSync(path, 'x')),
      changed,
    )
    assert.equal(await read(() => renameSync(path, `${path}.gone`)), 4097)
  })
})
