import assert from 'node:assert/strict'
import { ALL_OPERATIONS, type CleaningOperation, type CleaningWish } from '../image/cleaning.ts'
import type { CleaningPlan, GuestVolume } from './contract.ts'
import { isWithin } from './names.ts'
import { makePlan } from './plan.ts'

export function wishFor(
  operations: readonly CleaningOperation[] = ALL_OPERATIONS,
  isBestEffort = false,
): CleaningWish {
  return {
    operations: ALL_OPERATIONS.filter((name) => operations.includes(name)),
    isBestEffort,
    onSecrets: 'report',
  }
}

/** The plan, after what is true of every plan has been checked. */
export async function planFor(
  volumes: readonly GuestVolume[],
  operations?: readonly CleaningOperation[],
  isBestEffort?: boolean,
): Promise<CleaningPlan> {
  const wish = wishFor(operations, isBestEffort)
  const plan = await makePlan(volumes, wish)
  await checkPlan(plan, volumes, wish)
  return plan
}

async function checkPlan(plan: CleaningPlan, volumes: readonly GuestVolume[], wish: CleaningWish) {
  const byVolume = new Map<number, string[]>()
  for (const { volume, operation, edit } of plan.edits) {
    assert(wish.operations.includes(operation), `${operation} was not wished`)
    const files = volumes.find(({ index }) => index === volume)?.files
    assert(files)
    if (edit.is !== 'write' && edit.is !== 'link') assert(await files.stat(edit.path), 'it is there')
    if (edit.is === 'write' || edit.is === 'link') assert.equal(files.type, 'ext4')
    if (edit.is === 'registry') assert.equal(files.type, 'ntfs')
    if (edit.is === 'remove') assert(edit.path.length > 0, 'a root stays')
    const paths = byVolume.get(volume) ?? []
    byVolume.set(volume, paths)
    paths.push(`${edit.path.join('\0')}\0`)
  }
  for (const paths of byVolume.values()) {
    // Whatever lies beneath a path sorts right behind it.
    const sorted = paths.toSorted((one, other) => (one < other ? -1 : 1))
    for (const [index, path] of sorted.entries()) {
      const above = sorted[index - 1]
      if (above === undefined) continue
      assert(
        !isWithin(path.split('\0').slice(0, -1), above.split('\0').slice(0, -1)),
        'two edits of one place',
      )
    }
  }
  for (const { operation } of plan.removed) assert(wish.operations.includes(operation))
  const told = JSON.stringify(plan.removed) + JSON.stringify(plan.kept) + JSON.stringify(plan.warnings)
  assert.doesNotMatch(told, /\\ud[89a-f]/, 'well-formed text')
}

/** 'remove ntfs:Users/alice', in the order of the plan. */
export function editsOf(plan: CleaningPlan, volume = 0): readonly string[] {
  return plan.edits
    .filter((one) => one.volume === volume)
    .map(({ edit }) => `${edit.is} ${edit.path.join('/')}`)
}

export function shownOf(plan: CleaningPlan): readonly string[] {
  return plan.removed.map(({ how, path }) => `${how} ${path}`)
}
