import type { Catalog, Rows } from '../catalog/contract.ts'
import type { DiskExports } from '../host/contract.ts'
import type { CleaningSummary } from '../image/cleaning.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { Digest, DiskId, ImageId, MachineId, SnapshotId } from '../image/ids.ts'
import { machineDisksOf } from './columns.ts'
import { setAvailable, setFailed, setSnapshotAvailable, setSnapshotFailed } from './image-row.ts'
import { reserve } from './quota.ts'
import { imageRef, snapshotRef } from './refs.ts'
import type { StepContext } from './runner.ts'
import type { RefInput, WrittenImage } from './store-jobs.ts'

/** What a capture makes: an image of disks, or a snapshot of one. */
export type CaptureOutput =
  | { readonly is: 'image'; readonly id: ImageId; readonly diskIds: readonly DiskId[] }
  | { readonly is: 'snapshot'; readonly id: SnapshotId; readonly diskIds: readonly [DiskId] }

export type MadeOutput = WrittenImage & { readonly parent: Digest | undefined }

/** What the host told of the moment of a capture. */
export type MomentFacts = Pick<DiskExports, 'consistency' | 'consistencyWhy' | 'pausedMs' | 'frozenMs' | 'os'>

/** Those that are still to be made. Fault 'conflict' if all were deleted meanwhile. */
export async function listed(
  rows: Rows,
  outputs: readonly CaptureOutput[],
): Promise<readonly CaptureOutput[]> {
  const found: CaptureOutput[] = []
  for (const output of outputs) {
    const row = await rows.selectFrom(output.is).select('id').where('id', '=', output.id).executeTakeFirst()
    if (row !== undefined) found.push(output)
  }
  const [first] = outputs
  if (found.length === 0 && first !== undefined) {
    throw new Fault('conflict', `The ${first.is} was deleted while it was being made.`, { subject: first.is })
  }
  return found
}

/** As `listed`, with what refers to each in the store; its label tells the system that was found inside. */
export async function referable(
  rows: Rows,
  outputs: readonly CaptureOutput[],
  found: DiskExports['os'],
): Promise<{ readonly outputs: readonly CaptureOutput[]; readonly refs: readonly RefInput[] }> {
  const left: CaptureOutput[] = []
  const refs: RefInput[] = []
  for (const output of await listed(rows, outputs)) {
    try {
      const make =
        output.is === 'image' ? imageRef(rows, output.id, null) : snapshotRef(rows, output.id, null)
      const { holder, label } = await make
      const told = found === undefined ? {} : { osType: found.type, osName: found.name.toWellFormed() }
      refs.push({ holder, label: { ...label, ...told } })
      left.push(output)
    } catch (error) {
      // Deleted since it was looked at.
      if (!isFault(error, 'conflict')) throw error
    }
  }
  return left.length === 0 ? { outputs: await listed(rows, outputs), refs } : { outputs: left, refs }
}

/**
 * What came out larger than was reserved is charged before the host is told that the content was taken: if that is too
 * much, the capture fails and the next one can still tell what changed (I7).
 */
export async function chargeMore(
  catalog: Catalog,
  outputs: readonly CaptureOutput[],
  made: readonly WrittenImage[],
): Promise<void> {
  await catalog.transaction(async (rows) => {
    for (const output of await listed(rows, outputs)) {
      const row = await rows
        .selectFrom(output.is)
        .select('reservedBytes')
        .where('id', '=', output.id)
        .executeTakeFirst()
      const dataBytes = made[outputs.indexOf(output)]?.dataBytes ?? 0
      if (row !== undefined && dataBytes > row.reservedBytes) await reserve(rows, output, dataBytes)
    }
  })
}

/** Shows what was made, with what is known of its moment. */
export function setMade(
  rows: Rows,
  output: CaptureOutput,
  made: MadeOutput,
  { consistency, os, cleaning }: MomentFacts & { readonly cleaning?: CleaningSummary | undefined },
  nowMs: number,
): Promise<void> {
  const facts = { consistency, osType: os?.type, osName: os?.name }
  return output.is === 'image'
    ? setAvailable(rows, output.id, made, { ...facts, parent: made.parent, cleaning }, nowMs)
    : setSnapshotAvailable(rows, output.id, made, facts, nowMs)
}

/** What was read of a disk, whichever of the outputs it went into. */
export function readBytesOf(
  id: DiskId,
  outputs: readonly CaptureOutput[],
  made: readonly WrittenImage[],
): number {
  for (const [i, { diskIds }] of outputs.entries()) {
    const at = diskIds.indexOf(id as never)
    if (at !== -1) return made[i]?.diskReadBytes[at] ?? 0
  }
  return 0
}

/** The figures of all together, for the task's output; the digest is the first one's. */
export function summary(made: readonly WrittenImage[]) {
  const sum = (pick: (one: WrittenImage) => number) => made.reduce((total, one) => total + pick(one), 0)
  return {
    digest: made[0]?.digest,
    dataBytes: sum((one) => one.dataBytes),
    storedBytes: sum((one) => one.storedBytes),
    movedBytes: sum((one) => one.movedBytes),
  }
}

/** From now on the next capture of these disks needs only what changes. */
export async function keepBaselines(
  rows: Rows,
  { id, row }: Pick<StepContext, 'id' | 'row'>,
  machineId: MachineId,
  outputs: readonly CaptureOutput[],
  made: readonly WrittenImage[],
  atMs: number,
): Promise<void> {
  const machine = await rows
    .selectFrom('machine')
    .select('disks')
    .where('id', '=', machineId)
    .executeTakeFirst()
  // It may be gone by now: what was read of it is whole even so.
  if (machine === undefined) return
  const records = machineDisksOf(machine.disks)
  for (const [i, { diskIds }] of outputs.entries()) {
    for (const [diskIndex, diskId] of diskIds.entries()) {
      const sizeBytes = records.find((record) => record.id === diskId)?.sizeBytes
      const digest = made[i]?.digest
      if (sizeBytes === undefined || digest === undefined) continue
      const baseline = {
        machineId,
        regionId: row.regionId,
        captureKey: id,
        digest,
        diskIndex,
        sizeBytes,
        atMs,
      }
      await rows
        .insertInto('baseline')
        .values({ diskId, ...baseline })
        .onConflict((on) => on.column('diskId').doUpdateSet(baseline))
        .execute()
    }
  }
}

/** Those that nobody deleted stay listed as failed, with the reason. */
export async function failAll(
  rows: Rows,
  outputs: readonly CaptureOutput[],
  reason: string,
  nowMs: number,
): Promise<void> {
  for (const output of outputs) {
    if (output.is === 'image') await setFailed(rows, output.id, reason, nowMs)
    else await setSnapshotFailed(rows, output.id, reason, nowMs)
  }
}
