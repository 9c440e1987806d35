import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ShownTask } from '../wire/native/show.ts'
import { formatFacts } from './facts.ts'
import { cellWidth, formatBytes, formatDuration, formatTime, printable } from './format.ts'
import { describeTask } from './progress.ts'
import { findSize } from './size.ts'
import { formatTable } from './table.ts'

test('sizes are read with the units people write', () => {
  const good: [string, number][] = [
    ['1', 1],
    ['4096', 4096],
    ['512MiB', 512 * 1024 ** 2],
    ['512 mib', 512 * 1024 ** 2],
    ['20G', 20 * 1024 ** 3],
    ['20GB', 20e9],
    ['1.5TiB', 1.5 * 1024 ** 4],
    ['0.5k', 512],
  ]
  for (const [text, sizeBytes] of good) assert.equal(findSize(text), sizeBytes, text)
  for (const text of [
    '',
    '0',
    '-1',
    'MiB',
    '1XB',
    '1.2.3M',
    '1e3',
    '0.1',
    '99999999T',
    '0x10',
    'constructor',
  ]) {
    assert.equal(findSize(text), undefined, text)
  }
})

test('sizes, durations and times are written for people', () => {
  const sizes: [sizeBytes: number, text: string][] = [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [1024 ** 2 - 1, '1.0 MiB'],
    [123.4 * 1024 ** 2, '123 MiB'],
    [4 * 1024 ** 3, '4 GiB'],
    [1024 ** 6, '1024 PiB'],
  ]
  for (const [sizeBytes, text] of sizes) assert.equal(formatBytes(sizeBytes), text)
  assert.deepEqual([0, 8400, 125_000, 12_000_000].map(formatDuration), [
    '0 s',
    '8 s',
    '2 min 05 s',
    '3 h 20 min',
  ])
  assert.equal(formatTime(Date.parse('2026-08-01T12:00:00.123Z')), '2026-08-01 12:00:00')
  assert.equal(formatTime(null), '')
})

test('columns stand under each other, wide characters too', () => {
  assert.equal(cellWidth('华东1（杭州）'), 13)
  assert.equal(cellWidth('e\u0301'), 1)
  const rows = [
    { name: '杭州', count: 1 },
    { name: 'hk', count: 100 },
  ]
  const columns = [
    { head: 'NAME', of: (row: (typeof rows)[0]) => row.name },
    {
      head: 'COUNT',
      align: 'right' as const,
      of: (row: (typeof rows)[0]) => String(row.count),
      colour: () => 32,
    },
    { head: 'END', of: () => 'x' },
  ]
  assert.equal(formatTable(columns, rows, false), 'NAME  COUNT  END\n杭州      1  x\nhk      100  x\n')
  assert.ok(formatTable(columns, rows, true).includes('    \x1b[32m1\x1b[0m  x'))
})

test('a name cannot move the cursor', () => {
  assert.equal(printable('a\x1b[2Jb\u202ec\n'), 'a?[2Jb?c?')
  assert.equal(
    formatFacts([
      ['name', 'x\x07'],
      ['none', null],
      ['id', '1'],
    ]),
    'name  x?\nid    1\n',
  )
})

test('a task is described by its state, its bytes and what is left', () => {
  const task: ShownTask = {
    id: 'task-1',
    parentId: null,
    kind: 'copy-image',
    project: 'org-a',
    region: 'hk',
    state: 'running',
    step: 'pull',
    faultKind: null,
    reason: null,
    imageId: null,
    snapshotId: null,
    machineId: null,
    doneBytes: 1024 ** 3,
    totalBytes: 4 * 1024 ** 3,
    movedBytes: 0,
    savedBytes: 0,
    bytesPerSecond: null,
    etaMs: null,
    priority: 5,
    deadlineAtMs: null,
    lastReason: null,
    attemptCount: 1,
    output: {},
    createdAtMs: 0,
    startedAtMs: 0,
    endedAtMs: null,
  }
  assert.equal(
    describeTask(task, 512 * 1024 ** 2),
    'copy-image hk: pull  25 %  1 GiB of 4 GiB  512 MiB/s  6 s left',
  )
  assert.equal(
    describeTask({ ...task, totalBytes: 0, step: null, state: 'queued' }),
    'copy-image hk: queued  0 %',
  )
  assert.equal(
    describeTask({ ...task, step: null, state: 'paused' }),
    'copy-image hk: paused  25 %  1 GiB of 4 GiB',
  )
  // Bytes and what is left of the reading are not those of the cleaning.
  assert.equal(describeTask({ ...task, step: 'clean: scrub' }, 512), 'copy-image hk: clean: scrub')
  const failed: ShownTask = { ...task, state: 'failed', reason: 'No room.', endedAtMs: 2000 }
  assert.equal(describeTask(failed), 'copy-image hk: failed in 2 s, 1 GiB: No room.')
})
