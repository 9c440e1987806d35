import type { TaskParts } from './parts.ts'
import type { TaskDefinition } from './runner.ts'
import type { ExportJob } from './store-jobs.ts'

export interface ExportImageInput {
  readonly job: ExportJob
  /** What the rows say that learn size and digest: all links to these bytes. */
  readonly what: string
}

/** Makes all of an exported file once, for a digest that can be told before the first byte. */
export function exportImage({ jobs }: Pick<TaskParts, 'jobs'>): TaskDefinition<ExportImageInput> {
  return {
    kind: 'export-image',
    gate: 'digests',
    steps: [
      {
        name: 'digest',
        async run(context) {
          const { what, job } = context.input
          const { sizeBytes, sha256 } = await jobs.digestExport(job, context.progress, context.signal)
          await context.finish({ sizeBytes, sha256 }, async (rows) => {
            await rows
              .updateTable('download')
              .set({ sizeBytes, sha256 })
              .where('digest', '=', job.digest)
              .where('regionId', '=', job.regionId)
              .where('what', '=', what)
              .execute()
          })
        },
      },
    ],
    async undo() {
      // It makes nothing but an answer.
    },
  }
}
