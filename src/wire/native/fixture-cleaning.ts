import type { App, Caller } from '../../app/contract.ts'
import { reportOf } from '../../cleaning/fixture.ts'
import { createSigner, SIGNING_KEY_BYTES } from '../../cleaning/signature.ts'
import { CLEAN_ALL, type SignedReport, summaryOf } from '../../image/cleaning.ts'
import { type ImageId, newId, type TaskId } from '../../image/ids.ts'
import type { Image } from '../../image/image.ts'
import type { Task, TaskKind } from '../../image/task.ts'
import { fakeImage } from './fixture-nouns.ts'

export interface CleaningTold {
  /** What stands in the way of cleaning an image, where one asks. */
  blockers: readonly string[]
  /** The report of every image. */
  report: SignedReport
}

export interface CleaningParts {
  called(name: string, caller: Caller, input: unknown): Promise<void>
  begin(kind: TaskKind, parts?: Partial<Task>): TaskId
  readonly images: Map<ImageId, Image>
}

/** The cleaning of images, of an App in memory: every image gives the same report. */
export function createFakeCleaning({ called, begin, images }: CleaningParts) {
  const sign = createSigner(new Uint8Array(SIGNING_KEY_BYTES))
  const told: CleaningTold = {
    blockers: [],
    report: sign(reportOf({ wish: CLEAN_ALL, isDryRun: false })),
  }
  const app: Pick<App['images'], 'clean' | 'planClean' | 'report'> = {
    async clean(caller, input) {
      await called('images.clean', caller, input)
      const imageId = newId('image')
      const cleaning = summaryOf(reportOf({ wish: input.clean, isDryRun: false }))
      const taskId = begin('clean-image', { imageId, output: { consistency: 'crash', cleaning } })
      const { regionId, name = 'golden-clean' } = input
      const state = { at: 'creating', taskId } as const
      images.set(imageId, fakeImage({ id: imageId, regionId, state, name, origin: 'clean', cleaning }))
      return { imageId, taskId }
    },
    async planClean(caller, input) {
      await called('images.planClean', caller, input)
      const { blockers } = told
      const cleaning = blockers.length === 0 ? reportOf({ wish: input.clean, isDryRun: true }) : null
      return { taskId: begin('plan-clean', { output: { cleaning, blockers } }) }
    },
    async report(caller, where) {
      await called('images.report', caller, where)
      return told.report
    },
  }
  return { app, told }
}
