import type { CleaningPlan, MakePlan } from '../guest/contract.ts'
import { findOnDisk } from '../guest/found-system.ts'
import type {
  CleanVolume,
  DiskLayout,
  Edit,
  FileSystem,
  FoundVolume,
  Medium,
  RefusalReason,
  Run,
} from '../volume/contract.ts'
import { refuse } from '../volume/refuse.ts'
import { Tally, wipe } from '../volume/wipe.ts'
import type { OpenedVolume, Skills } from './skills.ts'

/**
 * Disks of a form of our own, for testing how cleanings run without real file systems: the first bytes of a disk are JSON that
 * tells its volumes, those of a volume are JSON that tells its files. Files whose names begin with 'x' are private.
 */

const HEADER_BYTES = 4096

export type Misdeed = 'loop' | 'bomb' | 'heap' | 'die' | 'fall' | 'throw' | 'babble' | 'drivel' | 'refuse'
export type Moment = 'look' | 'plan' | 'apply' | 'scrub' | 'check'

export interface ToyVolume extends FoundVolume {
  readonly files: ToyHead['files']
  readonly isDirty?: boolean
  readonly refusal?: RefusalReason
  readonly isPlanRefused?: boolean
  /** What the examiner does, and when it works on this volume. */
  readonly misdeed?: { readonly at: Moment; readonly does: Misdeed }
}

interface ToyHead {
  /** By name, where its bytes are. */
  readonly files: Readonly<Record<string, Run>>
  readonly isDirty?: boolean
  readonly refusal?: RefusalReason
  readonly isPlanRefused?: boolean
  readonly misdeed?: ToyVolume['misdeed']
}

type ToyTable = DiskLayout

function encode(value: unknown): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES)
  bytes.write(JSON.stringify(value))
  return bytes
}

function decode(bytes: Buffer): unknown {
  return JSON.parse(bytes.toString('utf8').replace(/\0+$/, ''))
}

/** A disk whose every byte outside of the heads is `filler`. */
export function toyDisk(
  sizeBytes: number,
  volumes: readonly ToyVolume[],
  gaps: readonly Run[],
  filler = 0x5a,
): Buffer {
  const bytes = Buffer.alloc(sizeBytes, filler)
  const bare = volumes.map(({ partition, kind, title, offset, lengthBytes, reason }) => ({
    ...{ partition, kind, title, offset, lengthBytes },
    ...(reason && { reason }),
  }))
  encode({ scheme: 'gpt', volumes: bare, gaps } satisfies ToyTable).copy(bytes)
  for (const { offset, files, isDirty, refusal, isPlanRefused, misdeed } of volumes) {
    const head = { files, isDirty, refusal, isPlanRefused, misdeed }
    encode(head).copy(bytes, offset)
  }
  return bytes
}

/** The head of a volume without the private names of `edits`, and clean: what the appliance makes of it. */
export function editHead(bytes: Buffer, edits: readonly Edit[]): Buffer {
  const head = decode(bytes) as ToyHead
  const files = { ...head.files }
  for (const { path } of edits) delete files[path[0] ?? '']
  return encode({ ...head, files, isDirty: false })
}

class ToyFileVolume implements CleanVolume {
  readonly files: FileSystem
  readonly sizeBytes: number
  readonly freeBytes = 0
  readonly needsReplay: boolean
  readonly head: ToyHead
  readonly #medium: Medium
  readonly #act: Act

  constructor(kind: FileSystem['type'], uuid: string, medium: Medium, head: ToyHead, act: Act) {
    this.#medium = medium
    this.#act = act
    this.head = head
    this.sizeBytes = medium.sizeBytes
    this.needsReplay = head.isDirty ?? false
    this.files = {
      ...{ type: kind, label: 'toy\u0007', uuid },
      list: async () => Object.keys(head.files).map((name) => ({ name, kind: 'file' })),
      stat: async () => undefined,
      read: async () => undefined,
      readLink: async () => undefined,
      measure: async () => ({ fileCount: 1, directoryCount: 0, bytes: 1 }),
    }
  }

  async apply(edits: readonly Edit[]): Promise<void> {
    await this.#act('apply', this.head)
    await this.#medium.write(0, editHead(await this.#medium.read(0, HEADER_BYTES), edits))
  }

  async scrub() {
    await this.#act('scrub', this.head)
    const files = Object.values(this.head.files).sort((a, b) => a.offset - b.offset)
    const free: Run[] = []
    let at = HEADER_BYTES
    for (const { offset, lengthBytes } of files) {
      free.push({ offset: at, lengthBytes: offset - at })
      at = offset + lengthBytes
    }
    free.push({ offset: at, lengthBytes: this.sizeBytes - at })
    const tally = new Tally()
    tally.add('free clusters', await wipe(this.#medium, free))
    return tally.scrubbed
  }
}

/** Told the moment, does what the volume's head says. */
export type Act = (at: Moment, head: ToyHead) => Promise<void>

export function toySkills(act: Act): Skills {
  // By its uuid, so that the plan can look at more than the contract shows.
  const heads = new Map<string, ToyHead>()
  const open = async (kind: FileSystem['type'], medium: Medium): Promise<OpenedVolume> => {
    const head = decode(await medium.read(0, HEADER_BYTES)) as ToyHead
    await act('look', head)
    if (head.refusal !== undefined) throw refuse(head.refusal, 'It is a toy.')
    const uuid = `toy ${heads.size}`
    heads.set(uuid, head)
    return new ToyFileVolume(kind, uuid, medium, head, act)
  }
  const makePlan: MakePlan = async (volumes) => {
    const plan: { -readonly [Key in keyof CleaningPlan]: CleaningPlan[Key][number][] } = {
      ...{ edits: [], removed: [], kept: [], secrets: [], warnings: [], refusals: [] },
    } as never
    for (const { index, files } of volumes) {
      const head = heads.get(files.uuid)
      if (head === undefined) continue
      await files.stat([])
      await act('plan', head)
      if (head.isPlanRefused) plan.refusals.push({ volume: index, message: 'Its plan is a toy.' })
      for (const { name } of (await files.list([])) ?? []) {
        const at = { volume: index, path: `/${name}` }
        if (name.startsWith('secret')) plan.secrets.push({ ...at, kind: 'toy key' })
        if (!name.startsWith('x')) continue
        plan.edits.push({ volume: index, operation: 'homes', edit: { is: 'remove', path: [name] } })
        const what = { operation: 'homes', how: 'removed', fileCount: 1, directoryCount: 0 } as const
        plan.removed.push({ ...at, ...what, bytes: head.files[name]?.lengthBytes ?? 0, parts: [] })
      }
    }
    return { ...plan, mountPoints: {} } as unknown as CleaningPlan
  }
  return {
    findVolumes: async (medium) => decode(await medium.read(0, HEADER_BYTES)) as ToyTable,
    open,
    openFiles: async (kind, medium) => (await open(kind, medium)).files,
    scrubSwap: async (medium) => {
      const bytes = await wipe(medium, [
        { offset: HEADER_BYTES, lengthBytes: medium.sizeBytes - HEADER_BYTES },
      ])
      const tally = new Tally()
      tally.add('swap', bytes)
      return tally.scrubbed
    },
    makePlan,
    findOnDisk,
  }
}
