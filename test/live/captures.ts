import assert from 'node:assert/strict'
import { findImage, waitForTask } from '../../demo/steps.ts'
import type { WantedConsistency } from '../../src/image/consistency.ts'
import type { ShownImage, ShownTask } from '../../src/wire/native/show.ts'
import { HOME } from '../e2e/failure-steps.ts'
import type { Place } from '../e2e/harness.ts'

/** What the task of a capture says of it in the end. */
export interface CaptureOutput {
  readonly disks: readonly {
    readonly id: string
    readonly way: 'changes' | 'own' | 'all'
    readonly why: string
    readonly readBytes: number
  }[]
  readonly consistency: string
  readonly consistencyWhy: string
  readonly pausedMs: number
  readonly frozenMs: number
  readonly isReleased: boolean
}

export interface Captured {
  readonly image: ShownImage
  readonly digest: string
  readonly task: ShownTask
  readonly output: CaptureOutput
}

export async function beginCapture(
  place: Place,
  machineId: string,
  consistency: WantedConsistency,
): Promise<{ imageId: string; taskId: string }> {
  const body = { region: HOME, machineId, disks: 'all', consistency }
  return place.server.native.call('POST', '/v1/images/capture', { body })
}

export async function endCapture(
  place: Place,
  { imageId, taskId }: { imageId: string; taskId: string },
): Promise<Captured> {
  const task = await waitForTask(place.server, taskId)
  assert.equal(task.state, 'done', `${taskId}: ${task.reason}`)
  const image = await findImage(place.server, HOME, imageId)
  assert(image.digest !== null, `${imageId} is ${image.state}`)
  const output = task.output as unknown as CaptureOutput
  assert.equal(output.isReleased, true)
  return { image, digest: image.digest, task, output }
}

export async function capture(
  place: Place,
  machineId: string,
  consistency: WantedConsistency,
): Promise<Captured> {
  return endCapture(place, await beginCapture(place, machineId, consistency))
}
