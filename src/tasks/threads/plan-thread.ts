import { openNbd } from '../../disk/nbd-client.ts'
import { hashPlain, isAllZero } from '../../store/hashes.ts'
import { PUBLIC_DOMAIN } from '../../store/names.ts'
import type { RegionStore } from '../../store/region.ts'
import type { CapturePlan, WriteJob } from '../store-jobs.ts'
import { CHUNK_BYTES, planDisks } from './plan-disks.ts'
import { openRegion, type RegionPlace } from './region.ts'
import { inThread } from './thread.ts'

export interface PlanData {
  readonly job: Pick<WriteJob, 'domain' | 'disks'>
  readonly place: RegionPlace
}

/** So many reads are on the way at once. */
const READS_AHEAD = 8

inThread(async ({ job, place }: PlanData, { signal, tell }): Promise<CapturePlan> => {
  const region = await openRegion(place)
  try {
    const plans = await planDisks(region, job.domain, job.disks, signal)
    const totalBytes = plans.reduce((sum, { readBytes }) => sum + readBytes, 0)
    const isNew = await newChunks(region, job.domain, signal)
    let doneBytes = 0
    let newBytes = 0
    for (const [index, source] of job.disks.entries()) {
      const pieces = chunksOf(plans[index]?.runs ?? [], source.sizeBytes)
      const client = await openNbd(source, { signal })
      try {
        const read = async ({ offset, lengthBytes }: { offset: number; lengthBytes: number }) =>
          client.read(offset, lengthBytes, signal)
        const ahead: Promise<Buffer>[] = []
        const ask = () => {
          const next = pieces.next()
          if (next.done === true) return
          const bytes = read(next.value)
          // Awaited in its turn; until then a failure must not count as unhandled.
          bytes.catch(() => {})
          ahead.push(bytes)
        }
        for (let i = 0; i < READS_AHEAD; i++) ask()
        for (let first = ahead.shift(); first !== undefined; first = ahead.shift()) {
          const bytes = await first
          signal.throwIfAborted()
          if (!isAllZero(bytes) && isNew(bytes)) newBytes += bytes.length
          doneBytes += bytes.length
          tell({ doneBytes, totalBytes, movedBytes: doneBytes })
          ask()
        }
      } finally {
        await client.close()
      }
    }
    return { disks: plans.map(({ readBytes, dataBytes }) => ({ readBytes, dataBytes })), newBytes }
  } finally {
    region.close()
  }
})

/** The chunks that runs touch, each once. */
function* chunksOf(runs: readonly { offset: number; lengthBytes: number }[], sizeBytes: number) {
  let next = 0
  for (const { offset, lengthBytes } of runs) {
    const end = Math.ceil((offset + lengthBytes) / CHUNK_BYTES)
    for (let i = Math.max(next, Math.floor(offset / CHUNK_BYTES)); i < end; i++) {
      yield { offset: i * CHUNK_BYTES, lengthBytes: Math.min(CHUNK_BYTES, sizeBytes - i * CHUNK_BYTES) }
    }
    next = Math.max(next, end)
  }
}

/** Tells of each chunk whether the region lacks it; the second of two equal ones is not new. */
async function newChunks(region: RegionStore, domain: WriteJob['domain'], signal: AbortSignal) {
  // A domain that nobody has written to has no keys yet, and asking must not make them: any keys tell equal chunks.
  const own = await region.findDomain(domain, signal)
  const shared = domain === PUBLIC_DOMAIN ? undefined : await region.findDomain(PUBLIC_DOMAIN, signal)
  const seen = new Set<string>()
  return (bytes: Buffer): boolean => {
    const hash = hashPlain(bytes)
    for (const hasher of [shared?.hasher, own?.hasher]) {
      const id = hasher?.idOf(hash)
      if (id !== undefined && region.places.findHolder(id, '') !== undefined) return false
    }
    const name = hash.toString('latin1')
    if (seen.has(name)) return false
    seen.add(name)
    return true
  }
}
