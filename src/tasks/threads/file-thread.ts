import type { InspectedDisk, Inspection, InspectionOptions } from '../../disk/formats/contract.ts'
import { inspect } from '../../disk/formats/inspect.ts'
import { mapDisk } from '../../disk/formats/mapped.ts'
import { slice } from '../../disk/formats/source.ts'
import { type NbdServer, serveNbd } from '../../disk/nbd-server.ts'
import type { ServedDisk } from '../../disk/nbd-server-handshake.ts'
import { Fault } from '../../image/fault.ts'
import type { FilePlace } from '../store-jobs.ts'
import { diskOf, type HeldFile, holdFile } from './file-source.ts'
import { mappedDisk } from './mapped-disk.ts'
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
  readonly isPlain: readonly boolean[]
}

/** A disk of the file: as a guest sees it, or the bytes that it is in the file. */
interface Served {
  readonly disk: ServedDisk
  readonly isPlain: boolean
}

let held: HeldFile | undefined
let accepted: readonly Served[] = []
let server: NbdServer | undefined

function disksOf(inspection: Inspection): readonly InspectedDisk[] {
  if (inspection.is === 'disk') return [inspection.disk]
  return inspection.is === 'archive' ? inspection.disks : []
}

async function open({ place, region, options }: Extract<FileAsk, { is: 'open' }>): Promise<Opened> {
  held = await holdFile(place, region)
  const inspection = await inspect(held, options)
  const served: Served[] = []
  for (const disk of disksOf(inspection)) served.push(await servedOf(held, disk))
  accepted = served
  const isPlain = served.map((one) => one.isPlain)
  return { sizeBytes: held.sizeBytes, descriptor: held.descriptor, inspection, isPlain }
}

async function servedOf(file: HeldFile, disk: InspectedDisk): Promise<Served> {
  const { offset, lengthBytes, format } = disk
  const map = await mapDisk(slice(file, offset, lengthBytes), disk)
  if (map !== undefined) return { disk: mappedDisk(file, map, offset), isPlain: true }
  return { disk: diskOf(file, offset, lengthBytes), isPlain: format === 'raw' }
}

/** Nothing but what the inspection of this very file accepted is ever served. */
async function serve(socketPath: string): Promise<void> {
  if (held === undefined) throw new Error('a file is opened before it is served')
  server = await serveNbd({
    listen: { socketPath },
    async resolve(exportName) {
      const served = accepted[Number(exportName)]
      if (served === undefined || !/^\d{1,3}$/.test(exportName)) {
        throw new Fault('absent', 'There is no such export.', { subject: 'disk' })
      }
      return served.disk
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
