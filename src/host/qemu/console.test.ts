import assert from 'node:assert/strict'
import { appendFile, mkdtemp, open, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { CONSOLE_ANSWER_BYTES_MAX, CONSOLE_KEPT_BYTES } from '../contract.ts'
import { cutConsoleLog, readConsoleLog } from './console.ts'

const MEBIBYTE = 1024 ** 2

/** A log of `sizeBytes` that ends in `tail`; most of it is a hole. */
async function newLog(t: TestContext, sizeBytes: number, tail: Buffer): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'calotype-console-'))
  t.after(() => rm(folder, { recursive: true }))
  const path = join(folder, 'console.log')
  const handle = await open(path, 'w')
  await handle.write(tail, 0, tail.length, sizeBytes - tail.length)
  await handle.close()
  return path
}

test('a log of any size is answered in small pieces, and only its newest part', async (t) => {
  const sizeBytes = 3 * 1024 ** 3
  const path = await newLog(t, sizeBytes, Buffer.from('the end'))
  const oldest = await readConsoleLog(path, 0)
  assert.equal(oldest.fromByte, sizeBytes - CONSOLE_KEPT_BYTES)
  assert.equal(oldest.bytes.length, CONSOLE_ANSWER_BYTES_MAX)
  const newest = await readConsoleLog(path, sizeBytes - 3)
  assert.deepEqual([newest.fromByte, newest.bytes.toString()], [sizeBytes - 3, 'end'])
  let fromByte = 0
  let readBytes = 0
  for (;;) {
    const piece = await readConsoleLog(path, fromByte)
    if (piece.bytes.length === 0) break
    fromByte = piece.fromByte + piece.bytes.length
    readBytes += piece.bytes.length
  }
  assert.deepEqual([fromByte, readBytes], [sizeBytes, CONSOLE_KEPT_BYTES])
  assert.deepEqual(await readConsoleLog(`${path}.none`, 5), { fromByte: 5, bytes: Buffer.alloc(0) })
})

test('what is cut off is never within what is answered, and bytes keep their numbers', async (t) => {
  const kept = Buffer.alloc(40 * MEBIBYTE, 'x')
  const path = await newLog(t, kept.length, kept)
  let cutBytes = await cutConsoleLog(path, 0)
  assert.ok(cutBytes > 0)
  for (const count of [1, 5 * MEBIBYTE, 3]) {
    await appendFile(path, Buffer.alloc(count, 'y'))
    const oldest = await readConsoleLog(path, 0)
    assert.ok(oldest.fromByte >= cutBytes + 4 * MEBIBYTE)
    assert.ok(!oldest.bytes.includes(0))
    cutBytes = await cutConsoleLog(path, cutBytes)
  }
  const { size, blocks } = await stat(path)
  assert.equal(size, 45 * MEBIBYTE + 4)
  assert.ok(blocks * 512 <= CONSOLE_KEPT_BYTES + 9 * MEBIBYTE)
  assert.equal((await readConsoleLog(path, size - 4)).bytes.toString(), 'yyyy')
  assert.equal(await cutConsoleLog(`${path}.none`, 7), 7)
})
