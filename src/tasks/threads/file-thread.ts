import type { InspectedDisk, Inspection, InspectionOptions } from '../../disk/formats/contract.ts'
import { inspect } from '../../disk/formats/inspect.ts'
import { type NbdServer, serveNbd } from '../../disk/nbd-server.ts'
import { Fault } from '../../image/fault.ts'
import type { FilePlace } from '../store-jobs.ts'
import { diskOf, type HeldFile, holdFile } from './file-source.ts'
import type { RegionPlace } from './region.ts'
import { answer } from './talk.ts'

/** What is asked of the thread that holds one file. */
export type FileAsk =
  | {
      readonly is: 'open'
      readonly place: FilePlace
      readonly region: RegionPlace | undefined
      readonly options: Omit<InspectionOptions, 'signal'>
    }
  | { readonly is: 'serve'; readonly socketPath: string }
  | { readonly is: 'close' }

export interface Opened {
  readonly sizeBytes: number
  readonly descriptor: number | undefined
  readonly inspection: Inspection
}

let held: HeldFile | undefined
let accepted: readonly InspectedDisk[] = []
let server: NbdServer | undefined

function disksOf(inspection: Inspection): readonly InspectedDisk[] {
  if (inspection.is === 'disk') return [inspection.disk]
  return inspection.is === 'archive' ? inspection.disks : []
}

async function open({ place, region, options }: Extract<FileAsk, { is: 'open' }>): Promise<Opened> {
  held = await holdFile(place, region)
  const inspection = await inspect(held, options)
  accepted = disksOf(inspection)
  return { sizeBytes: held.sizeBytes, descriptor: held.descriptor, inspection }
}

/** Nothing but what the inspection of this very file accepted is ever served. */
async function serve(socketPath: string): Promise<void> {
  const file = held
  if (file === undefined) throw new Error('a file is opened before it is served')
  server = await serveNbd({
    listen: { socketPath },
    async resolve(exportName) {
      const disk = accepted[Number(exportName)]
      if (disk === undefined || !/^\d{1,3}$/.test(exportName)) {
        throw new Fault('absent', 'There is no such export.', { subject: 'disk' })
      }
      return diskOf(file, disk.offset, disk.lengthBytes)
    },
  })
}

answer<FileAsk>(async (ask) => {
  switch (ask.is) {
    case 'open':
      return open(ask)
    case 'serve':
      return serve(ask.socketPath)
    case 'close':
      await server?.close()
      await held?.close()
      return
    default:
      return ask satisfies never
  }
})
