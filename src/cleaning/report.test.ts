import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CleaningPlan } from '../guest/contract.ts'
import { CLEAN_ALL, type RemovedItem } from '../image/cleaning.ts'
import { isFault } from '../image/fault.ts'
import { makeReport } from './report.ts'
import { Survey } from './survey.ts'

const itemOf = (how: RemovedItem['how'], fileCount: number, bytes: number): RemovedItem => ({
  ...{
    volume: 0,
    path: '/x',
    operation: 'ssh-host-keys',
    how,
    fileCount,
    directoryCount: 0,
    bytes,
    parts: [],
  },
})

test('a report that is too long for an image is refused', () => {
  const kept = Array.from({ length: 10_000 }, () => ({ volume: 0, path: 'x'.repeat(1000), why: 'y' }))
  const plan: CleaningPlan = {
    ...{ edits: [], removed: [], kept, secrets: [], warnings: [], mountPoints: {}, refusals: [] },
  }
  const survey = new Survey({ disks: [] }, [], CLEAN_ALL)
  const times = { madeAtMs: 0, durationMs: 1, tools: {}, phases: {} }
  assert.throws(
    () => makeReport({ wish: CLEAN_ALL, isDryRun: false, ...times, survey, plan }),
    (error) => isFault(error, 'conflict') && error.reason === 'too-large',
  )
})

test('only what is gone counts as removed', () => {
  const plan: CleaningPlan = {
    edits: [],
    removed: [
      itemOf('removed', 1, 10),
      itemOf('emptied', 2, 20),
      itemOf('written', 4, 40),
      itemOf('blanked', 8, 80),
      itemOf('unregistered', 16, 160),
    ],
    ...{ kept: [], secrets: [], warnings: [], mountPoints: {}, refusals: [] },
  }
  const survey = new Survey({ disks: [] }, [], CLEAN_ALL)
  const phases = {}
  const report = makeReport({
    ...{ wish: CLEAN_ALL, isDryRun: false, madeAtMs: 0, durationMs: 1, tools: {}, phases, survey, plan },
  })
  assert.deepEqual([report.removedFileCount, report.removedBytes, report.scrubbedBytes], [3, 30, 0])
})
