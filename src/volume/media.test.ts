import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Medium, Run } from './contract.ts'
import { FileMedium } from './file-medium.fixture.ts'
import { MemoryMedium } from './memory-medium.fixture.ts'
import { slice } from './slice.ts'
import { emptyDisk, randomFrom, withFolder } from './tools.fixture.ts'
import { isZeroRange, Tally, wipe } from './wipe.ts'

const SIZE_BYTES = 3 * 1024 * 1024 + 77

/** Does the same to a medium and to plain bytes, and compares. */
async function compare(medium: Medium, expected: Buffer): Promise<void> {
  const seed = Math.floor(Math.random() * 2 ** 31)
  console.log(`seed: ${seed}`)
  const random = randomFrom(seed)
  for (let round = 0; round < 300; round++) {
    const offset = Math.floor(random() * expected.length)
    const lengthBytes = Math.min(expected.length - offset, Math.floor(random() ** 4 * 100_000))
    const bytes = Buffer.alloc(lengthBytes, round)
    const choice = random()
    if (choice < 0.4) {
      await medium.write(offset, bytes)
      bytes.copy(expected, offset)
    } else if (choice < 0.6) {
      await medium.zero(offset, lengthBytes)
      expected.fill(0, offset, offset + lengthBytes)
    } else {
      assert.ok(
        (await medium.read(offset, lengthBytes)).equals(expected.subarray(offset, offset + lengthBytes)),
      )
    }
  }
  assert.ok((await medium.read(0, expected.length)).equals(expected))
}

test('a medium in memory, one in a file and a slice read as they were written', () =>
  withFolder(async (folder) => {
    const memory = new MemoryMedium(SIZE_BYTES)
    await compare(memory, Buffer.alloc(SIZE_BYTES))
    const path = await emptyDisk(join(folder, 'disk.raw'), SIZE_BYTES)
    const file = await FileMedium.open(path)
    const expected = Buffer.alloc(SIZE_BYTES)
    await compare(file, expected)
    assert.ok((await readFile(path)).equals(expected))
    await file.close()
    const whole = MemoryMedium.of(Buffer.alloc(SIZE_BYTES + 200, 7))
    await compare(slice(whole, { offset: 100, lengthBytes: SIZE_BYTES }), Buffer.alloc(SIZE_BYTES, 7))
    const around = whole.bytes()
    assert.ok(around.subarray(0, 100).every((byte) => byte === 7))
    assert.ok(around.subarray(-100).every((byte) => byte === 7))
  }))

test('a slice keeps to its part', async () => {
  const medium = new MemoryMedium(10_000)
  await medium.write(5000, Buffer.of(1))
  const part = slice(medium, { offset: 4000, lengthBytes: 2000 })
  const runs: Run[] = []
  for await (const run of part.dataRuns?.(500, 1500) ?? []) runs.push(run)
  assert.deepEqual(runs, [{ offset: 500, lengthBytes: 1500 }])
  await assert.rejects(part.read(1999, 2))
  await assert.rejects(part.write(-1, Buffer.of(1)))
  await assert.rejects(part.zero(0, 2001))
  assert.throws(() => slice(medium, { offset: 9000, lengthBytes: 1001 }))
  assert.throws(() => slice(medium, { offset: Number.NaN, lengthBytes: 1 }))
})

test('wiping touches what holds anything, and nothing between', async () => {
  const medium = MemoryMedium.of(Buffer.alloc(5_000_000, 9))
  const runs: Run[] = []
  for (let offset = 10; offset < 1_500_000; offset += 5000) runs.push({ offset, lengthBytes: 3000 })
  runs.push({ offset: 1_600_000, lengthBytes: 0 }, { offset: 1_700_001, lengthBytes: 3_000_000 })
  const expected = medium.bytes()
  for (const { offset, lengthBytes } of runs) expected.fill(0, offset, offset + lengthBytes)
  const wipedBytes = await wipe(medium, runs)
  assert.equal(
    wipedBytes,
    runs.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
  )
  assert.ok(medium.bytes().equals(expected))
  const { zeroes } = medium.counts
  assert.equal(await wipe(medium, runs), 0)
  assert.equal(medium.counts.zeroes, zeroes)
  assert.ok(await isZeroRange(medium, { offset: 1_700_001, lengthBytes: 3_000_000 }))
  assert.ok(!(await isZeroRange(medium, { offset: 1_700_001, lengthBytes: 3_000_001 })))
})

test('wiping a range without data costs next to nothing', async () => {
  const medium = new MemoryMedium(1024 ** 4)
  await medium.write(1024 ** 3, Buffer.of(1))
  assert.equal(await wipe(medium, [{ offset: 0, lengthBytes: 1024 ** 4 }]), 4096)
  assert.ok(medium.counts.readBytes <= 4096)
})

test('a tally has no word for nothing', () => {
  const tally = new Tally()
  tally.add('free', 0)
  tally.add('names', 32)
  tally.add('names', 64, 2)
  assert.deepEqual([...tally.scrubbed], [['names', { count: 3, bytes: 96 }]])
})
