import {
  type CleaningOperation,
  describePlace,
  type FoundSecret,
  type KeptItem,
  type RemovedItem,
} from '../image/cleaning.ts'
import type { Edit, FileSystem, Path, TreeSize } from '../volume/contract.ts'
import type { CleaningPlan, GuestVolume, PlannedEdit } from './contract.ts'
import { measureParts } from './parts.ts'

/** An edit of a volume. */
export interface VolumeEdit {
  readonly volume: GuestVolume
  readonly edit: Edit
}

/** What is told as one item of the report, and the edits that do it. */
export interface Claim {
  readonly operation: CleaningOperation
  /** The volume and the path that are told. */
  readonly volume: GuestVolume
  readonly shown: string
  readonly how: RemovedItem['how']
  readonly edits: readonly VolumeEdit[]
  /** The tree of a person, which is told by its parts. */
  readonly tree?: Path
}

interface Claimed extends VolumeEdit {
  readonly claim: Claim
  readonly size: TreeSize
  readonly order: number
}

/** Items of one operation and volume that are told each by itself; the others are one item. */
const ITEM_COUNT_MAX = 1000

/**
 * A plan while it is made. Operations claim; `settle` decides between claims of the same place (the outermost has it, the first
 * of two equals), so that no operation has to know of another.
 */
export class Draft {
  readonly kept: KeptItem[] = []
  readonly secrets: FoundSecret[] = []
  readonly warnings: string[] = []
  readonly refusals: { readonly volume: number; readonly message: string }[] = []
  readonly mountPoints: Record<number, string> = {}
  readonly #claimed: Claimed[] = []
  readonly #parts = new Map<Claim, RemovedItem['parts']>()
  readonly #taken = new Map<number, Set<string>>()
  #settled: readonly Claimed[] = []
  readonly #toldKept = new Set<string>()
  readonly #isBestEffort: boolean

  constructor(isBestEffort: boolean) {
    this.#isBestEffort = isBestEffort
  }

  /** Nothing is claimed where nothing is there to do. */
  async claim(claim: Claim): Promise<void> {
    const measured: VolumeEditSize[] = []
    for (const { volume, edit } of claim.edits) {
      const size = await sizeOf(volume.files, edit)
      if (size !== undefined) measured.push({ volume, edit, size })
    }
    if (claim.tree !== undefined && measured.length > 0) {
      const total = sum(measured.filter((one) => one.volume === claim.volume).map((one) => one.size))
      this.#parts.set(claim, await measureParts(claim.volume.files, claim.tree, total))
    }
    for (const one of measured) this.#claimed.push({ ...one, claim, order: this.#claimed.length })
  }

  keep(volume: GuestVolume, path: string, why: string): void {
    const key = `${volume.index} ${path}`
    if (this.#toldKept.has(key)) return
    if (this.kept.length < ITEM_COUNT_MAX) this.#toldKept.add(key)
    if (this.kept.length < ITEM_COUNT_MAX) this.kept.push({ volume: volume.index, path, why })
    else this.warn(`More than ${ITEM_COUNT_MAX} things are kept; the others are not told one by one.`)
  }

  warn(warning: string): void {
    if (!this.warnings.includes(warning)) this.warnings.push(warning)
  }

  /** Something cannot be cleaned as wished; `message` names nothing from inside the volume. Best effort leaves it and says so. */
  refuse(volume: GuestVolume, message: string): void {
    if (this.#isBestEffort) this.warn(`${describePlace(volume)}: Left as it is. ${message}`)
    else this.refusals.push({ volume: volume.index, message })
  }

  /** After the last claim. */
  settle(): void {
    const outermostFirst = this.#claimed.toSorted(
      (one, other) => one.edit.path.length - other.edit.path.length || one.order - other.order,
    )
    const settled: Claimed[] = []
    for (const one of outermostFirst) {
      if (this.isTaken(one.volume.index, one.edit.path)) continue
      const taken = this.#taken.get(one.volume.index) ?? new Set()
      this.#taken.set(one.volume.index, taken.add(keyOf(one.edit.path)))
      settled.push(one)
    }
    this.#settled = settled.sort((one, other) => one.order - other.order)
  }

  /** True for what an edit concerns, and for all beneath. Only after `settle`. */
  isTaken(volume: number, path: Path): boolean {
    const taken = this.#taken.get(volume)
    if (taken === undefined) return false
    let key = ''
    if (taken.has(key)) return true
    for (const name of path) {
      key += `${name}\0`
      if (taken.has(key)) return true
    }
    return false
  }

  /** Only after `settle`. */
  plan(): CleaningPlan {
    return {
      edits: this.#settled.map(
        ({ volume, claim, edit }): PlannedEdit => ({
          volume: volume.index,
          operation: claim.operation,
          edit,
        }),
      ),
      removed: this.#removed(),
      kept: this.kept,
      secrets: this.secrets,
      warnings: this.warnings,
      mountPoints: this.mountPoints,
      refusals: this.refusals,
    }
  }

  #removed(): readonly RemovedItem[] {
    const sizes = new Map<Claim, TreeSize[]>()
    for (const { claim, size } of this.#settled) {
      const known = sizes.get(claim)
      if (known === undefined) sizes.set(claim, [size])
      else known.push(size)
    }
    const items: RemovedItem[] = []
    const groups = new Map<string, { count: number; rest: number | undefined }>()
    for (const [claim, own] of sizes) {
      const { operation, shown, how } = claim
      const item: RemovedItem = {
        operation,
        volume: claim.volume.index,
        path: shown,
        how,
        ...sum(own),
        parts: this.#parts.get(claim) ?? [],
      }
      const key = `${operation} ${item.volume} ${how}`
      const group = groups.get(key) ?? { count: 0, rest: undefined }
      groups.set(key, group)
      group.count += 1
      const rest = group.rest === undefined ? undefined : items[group.rest]
      if (group.count <= ITEM_COUNT_MAX) items.push(item)
      else if (rest === undefined || group.rest === undefined) {
        group.rest = items.length
        items.push({ ...item, path: 'others', parts: [] })
      } else items[group.rest] = { ...rest, ...sum([rest, item]) }
    }
    return items
  }
}

interface VolumeEditSize extends VolumeEdit {
  readonly size: TreeSize
}

function keyOf(path: Path): string {
  return path.map((name) => `${name}\0`).join('')
}

function sum(sizes: readonly TreeSize[]): TreeSize {
  const total = { fileCount: 0, directoryCount: 0, bytes: 0 }
  for (const size of sizes) {
    total.fileCount += size.fileCount
    total.directoryCount += size.directoryCount
    total.bytes += size.bytes
  }
  return total
}

/** What an edit takes away or writes; undefined if there is nothing. */
async function sizeOf(files: FileSystem, edit: Edit): Promise<TreeSize | undefined> {
  switch (edit.is) {
    case 'remove':
      return files.measure(edit.path)
    case 'empty': {
      const facts = await files.stat(edit.path)
      if (facts === undefined) return undefined
      if (facts.kind !== 'directory') return facts.sizeBytes === 0 ? undefined : files.measure(edit.path)
      if ((await files.list(edit.path))?.length === 0) return undefined
      const size = await files.measure(edit.path)
      // Itself is counted, and stays.
      return { ...size, directoryCount: Math.max(0, size.directoryCount - 1) }
    }
    case 'blank': {
      const facts = await files.stat(edit.path)
      if (facts === undefined || facts.sizeBytes <= edit.keepBytes) return undefined
      return { fileCount: 1, directoryCount: 0, bytes: facts.sizeBytes - edit.keepBytes }
    }
    case 'write':
      return { fileCount: 1, directoryCount: 0, bytes: Buffer.byteLength(edit.content) }
    case 'link':
      return { fileCount: 1, directoryCount: 0, bytes: 0 }
    case 'registry':
      return { fileCount: 0, directoryCount: 0, bytes: 0 }
    default:
      return edit satisfies never
  }
}
