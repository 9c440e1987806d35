import { join } from 'node:path'
import { calotypeCopy, packsCopy, qemuImgCopy, resticCopy } from './copy-contenders.ts'
import { type CopySources, prepareOurs } from './copy-sources.ts'
import { fasterThan } from './marks.ts'
import { compare } from './measure.ts'
import type { Findings } from './report.ts'

// Copies between two folders of one disk: the time is that of the work.

const CP_SHARE_MIN = 0.8
/** These are short, and so is what disturbs them. */
const CP_RUN_COUNT = 7

type Say = (line: string) => void

/** `large`: a disk whose packs are enough for a rate. */
export async function unlimitedPart(
  scratch: string,
  sources: CopySources,
  large: string,
  say: Say,
): Promise<Findings> {
  const { ours } = sources
  const rows = await compare(
    [
      calotypeCopy({ name: 'calotype', version: 0 }, ours),
      resticCopy({ name: 'restic copy', version: 0 }, sources),
      qemuImgCopy('qemu-img', sources),
      calotypeCopy({ name: 'calotype, next version', version: 1 }, ours),
      resticCopy({ name: 'restic copy, next version', version: 1 }, sources),
    ],
    say,
  )
  const dense = await prepareOurs(join(scratch, 'large'), [large])
  const own = calotypeCopy({ name: 'calotype, large', version: 0 }, dense)
  const limit = packsCopy('cp -r of the packs, large', dense)
  const largeRows = await compare([own, limit], say, CP_RUN_COUNT)
  const race = { what: 'unlimited', rows: largeRows, ours: own.name }
  return {
    rows: [...rows, ...largeRows],
    races: [
      { ours: 'calotype', peers: ['restic copy', 'qemu-img'] },
      { ours: 'calotype, next version', peers: ['restic copy, next version'] },
      { ours: own.name, peers: [limit.name] },
    ],
    marks: fasterThan(race, limit.name, CP_SHARE_MIN),
  }
}
