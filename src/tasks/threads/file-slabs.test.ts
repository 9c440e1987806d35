import assert from 'node:assert/strict'
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { fileSlabs } from './file-slabs.ts'

const MIB = 1024 * 1024

describe('memory that a file is read into', () => {
  const content = Buffer.from(Uint8Array.from({ length: MIB }, (_, index) => (index * 7) ^ (index >> 8)))
  let folder: string
  let descriptor: number
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'calotype-slabs-'))
    writeFileSync(join(folder, 'file'), content)
    descriptor = openSync(join(folder, 'file'), 'r+')
  })
  afterEach(() => {
    closeSync(descriptor)
    rmSync(folder, { recursive: true })
  })

  test('holds what was asked for, wherever it begins and however long it is', () => {
    const slabs = fileSlabs()
    for (const [offset, lengthBytes] of [
      [0, 1],
      [1, 65_536],
      [4095, 256 * 1024],
      [0, 256 * 1024 + 1],
      [0, MIB],
      [MIB - 1, 1],
    ] as const) {
      const bytes = slabs.read(descriptor, offset, lengthBytes)
      assert.ok(content.subarray(offset, offset + lengthBytes).equals(bytes), `${offset}, ${lengthBytes}`)
      slabs.release(bytes)
    }
  })

  test('is used again once it was given back, and never before', () => {
    const slabs = fileSlabs()
    const first = slabs.read(descriptor, 0, 1000)
    const second = slabs.read(descriptor, 1000, 1000)
    assert.notEqual(first.buffer, second.buffer)
    slabs.release(first)
    const third = slabs.read(descriptor, 2000, 2000)
    assert.equal(third.buffer, first.buffer)
    assert.ok(content.subarray(1000, 2000).equals(second))
    assert.ok(content.subarray(2000, 4000).equals(third))
  })

  test('is kept for a few reads alone', () => {
    const slabs = fileSlabs()
    const many = Array.from({ length: 100 }, (_, index) => slabs.read(descriptor, index, 10))
    const buffers = new Set(many.map(({ buffer }) => buffer))
    assert.equal(buffers.size, 100)
    for (const bytes of many) slabs.release(bytes)
    const again = Array.from({ length: 100 }, (_, index) => slabs.read(descriptor, index, 10))
    const keptCount = again.filter(({ buffer }) => buffers.has(buffer)).length
    assert.equal(keptCount, 16)
  })

  test('a file that was cut, or cannot be read, is a fault of the file', () => {
    const slabs = fileSlabs()
    ftruncateSync(descriptor, 5000)
    const isFaulty = (message: RegExp) => ({ kind: 'unavailable', subject: 'file', message })
    assert.throws(() => slabs.read(descriptor, 4096, 4096), isFaulty(/became shorter/))
    const folderDescriptor = openSync(folder, 'r')
    try {
      assert.throws(() => slabs.read(folderDescriptor, 0, 1), isFaulty(/cannot be read/))
    } finally {
      closeSync(folderDescriptor)
    }
  })
})
