import { hundredPart } from './tools/copy-hundred.ts'
import { linkPart } from './tools/copy-link.ts'
import { referencePart } from './tools/copy-reference.ts'
import { resumePart } from './tools/copy-resume.ts'
import { type CopySources, prepareOurs, prepareSources } from './tools/copy-sources.ts'
import { unlimitedPart } from './tools/copy-unlimited.ts'
import { ensureChangedDisk, ensureDemoDisk } from './tools/data.ts'
import { ensureKeptDisk } from './tools/kept-disk.ts'
import { withScratch } from './tools/measure.ts'
import type { Bench, Findings } from './tools/report.ts'

// Copies of an image to a region that has nothing, and of its next version, of which one chunk in 100 is another.

type Say = (line: string) => void

interface Given {
  readonly demo: string
  /** A disk with more data, where a rate is asked for. */
  readonly large: string
  /** Both versions of the demo disk, kept by everybody; made when they are first asked for. */
  readonly sources: () => Promise<CopySources>
  readonly say: Say
}

const PARTS = {
  link: async (scratch, { sources, large, say }) => linkPart(scratch, await sources(), large, say),
  unlimited: async (scratch, { sources, large, say }) => unlimitedPart(scratch, await sources(), large, say),
  reference: (scratch, { demo, say }) => referencePart(scratch, demo, say),
  resume: (scratch, { large, say }) => resumePart(scratch, large, say),
  hundred: async (scratch, { demo, say }) => hundredPart(scratch, await prepareOurs(scratch, [demo]), say),
} as const satisfies Record<string, (scratch: string, given: Given) => Promise<Findings>>

export const parts = Object.keys(PARTS)

export const run: Bench = async (say, only = parts) => {
  const demo = await ensureDemoDisk(say)
  const large = await ensureKeptDisk(say)
  return withScratch(async (scratch) => {
    let made: Promise<CopySources> | undefined
    const sources = async () => {
      made ??= prepareSources(scratch, [demo, await ensureChangedDisk(demo)])
      return made
    }
    const found: Findings[] = []
    for (const [name, part] of Object.entries(PARTS)) {
      if (!only.includes(name)) continue
      say(`${name}:`)
      found.push(await withScratch((own) => part(own, { demo, large, sources, say })))
    }
    return {
      rows: found.flatMap(({ rows }) => rows),
      races: found.flatMap(({ races }) => races),
      marks: found.flatMap(({ marks }) => marks),
    }
  })
}
