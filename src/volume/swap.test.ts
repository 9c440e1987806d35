import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isFault } from '../image/fault.ts'
import { MemoryMedium } from './memory-medium.fixture.ts'
import { scrubSwap } from './swap.ts'
import { emptyDisk, tool, withFolder } from './tools.fixture.ts'

const SIZE_BYTES = 4 * 1024 * 1024
const UUID = '01234567-89ab-cdef-0123-456789abcdef'

async function made(folder: string, pageBytes: number): Promise<{ path: string; bytes: Buffer }> {
  const path = await emptyDisk(join(folder, `swap${pageBytes}`), SIZE_BYTES)
  await tool('mkswap', ['-q', '-p', String(pageBytes), '-L', 'swapped', '-U', UUID, path])
  return { path, bytes: await readFile(path) }
}

function refused(reason: string): (error: unknown) => boolean {
  return (error) => isFault(error, 'conflict') && error.subject === 'volume' && error.reason === reason
}

test('of swap the header alone is left, whatever the size of its pages', () =>
  withFolder(async (folder) => {
    for (const pageBytes of [4096, 8192, 65536]) {
      const { path, bytes } = await made(folder, pageBytes)
      const used = Buffer.from(bytes)
      used.fill('secret', pageBytes)
      used.fill('secret', 0, 1000)
      used.fill('secret', 1100, pageBytes - 10)
      const medium = MemoryMedium.of(used)
      const scrubbed = await scrubSwap(medium)
      assert.ok((scrubbed.get('swap')?.bytes ?? 0) >= SIZE_BYTES - pageBytes)
      assert.ok(medium.bytes().equals(bytes), 'as mkswap made it')
      const { writes, zeroes } = medium.counts
      assert.equal((await scrubSwap(medium)).size, 0)
      assert.deepEqual([medium.counts.writes, medium.counts.zeroes], [writes, zeroes])
      await writeFile(path, medium.bytes())
      assert.match(await tool('blkid', ['-p', path]), new RegExp(`UUID="${UUID}".*TYPE="swap"`))
    }
  }))

test('bad pages stay listed', () =>
  withFolder(async (folder) => {
    const { bytes } = await made(folder, 4096)
    bytes.writeUInt32LE(2, 1024 + 8)
    bytes.writeUInt32LE(17, 1536)
    bytes.writeUInt32LE(18, 1540)
    bytes.writeUInt32LE(99, 1544)
    const medium = MemoryMedium.of(bytes)
    await scrubSwap(medium)
    const left = medium.bytes()
    assert.deepEqual(
      [1536, 1540, 1544].map((at) => left.readUInt32LE(at)),
      [17, 18, 0],
    )
    bytes.writeUInt32LE(4_000_000_000, 1024 + 8)
    await assert.rejects(scrubSwap(MemoryMedium.of(bytes)), refused('damaged'))
  }))

test('a hibernated system, an old form and no swap at all are refused, and untouched', () =>
  withFolder(async (folder) => {
    const { bytes } = await made(folder, 4096)
    for (const [signature, reason] of [
      ['S1SUSPEND\0', 'hibernated'],
      ['LINHIB0001', 'hibernated'],
      ['SWAP-SPACE', 'unsupported'],
      ['something ', 'damaged'],
    ] as const) {
      bytes.write(signature, 4086)
      const medium = MemoryMedium.of(bytes)
      await assert.rejects(scrubSwap(medium), refused(reason))
      assert.ok(medium.bytes().equals(bytes))
    }
    await assert.rejects(scrubSwap(new MemoryMedium(0)), refused('damaged'))
    await assert.rejects(scrubSwap(new MemoryMedium(5000)), refused('damaged'))
  }))
