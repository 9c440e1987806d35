import assert from 'node:assert/strict'
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { writeDirect } from './direct-write.ts'
import { openDirectoryObjects } from './directory.ts'
import { parseObjectName } from './names.ts'

const MIB = 1024 * 1024

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'direct-'))
  try {
    await body(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** The same bytes at every place of a page: at one of them at most is a direct write possible. */
function pattern(lengthBytes: number, shift: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(lengthBytes + shift).subarray(shift)
  for (let i = 0; i < lengthBytes; i++) bytes[i] = (i * 31) ^ (i >> 9)
  return bytes
}

test('what a direct write says it wrote is written, wherever the bytes lie in memory', () =>
  inFolder(async (folder) => {
    for (const shift of [0, 1, 4080]) {
      const bytes = pattern(9 * MIB + 77, shift)
      const path = join(folder, `at-${shift}`)
      await writeFile(path, '')
      const doneBytes = await writeDirect(path, bytes)
      assert.ok([0, 9 * MIB].includes(doneBytes), `${doneBytes} bytes`)
      assert.ok((await readFile(path)).equals(bytes.subarray(0, doneBytes)))
    }
  }))

test('small objects are written the usual way', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'small')
    await writeFile(path, '')
    assert.equal(await writeDirect(path, pattern(MIB - 1, 0)), 0)
  }))

test('an object of any length is whole, however much of it was written directly', () =>
  inFolder(async (folder) => {
    const objects = await openDirectoryObjects({ folder, clean: true })
    for (const lengthBytes of [MIB - 1, MIB, MIB + 1, 8 * MIB, 8 * MIB + 4096, 9 * MIB + 4095]) {
      for (const shift of [0, 3, 4080]) {
        const bytes = pattern(lengthBytes, shift)
        const name = parseObjectName(`packs/aa/${lengthBytes}-${shift}`)
        assert.equal(await objects.put(name, bytes), 'stored')
        assert.equal(await objects.size(name), lengthBytes)
        assert.ok((await objects.get(name, 0, lengthBytes)).equals(bytes), `${lengthBytes} at ${shift}`)
      }
    }
  }))

test('a stopped direct write throws the reason and leaves the file closed', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'stopped')
    await writeFile(path, '')
    const stop = AbortSignal.abort(new Error('stop'))
    await assert.rejects(writeDirect(path, pattern(2 * MIB, 0), stop), /stop/)
    await (await open(path, 'r')).close()
  }))
