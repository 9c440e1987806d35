import type { DirectoryEntry, FileFacts, Path } from '../volume/contract.ts'
import type { GuestVolume } from './contract.ts'
import type { VolumeEdit } from './draft.ts'
import { isWithin, shownPath, splitPath } from './names.ts'

/** A place as its system names it (`guest`) and where it lies. No part of `guest` is a link. */
export interface Place {
  readonly guest: Path
  readonly volume: GuestVolume
  readonly path: Path
}

export interface Mount {
  readonly point: Path
  readonly volume: GuestVolume
}

/** A folder that is shown at another place too (`mount --bind`). */
export interface Bind {
  readonly point: Path
  readonly target: Path
}

/** As Linux has it. */
const LINK_COUNT_MAX = 40
/** A path of 4096 bytes has no more names. */
const NAME_COUNT_MAX = 2048

/**
 * The files of one system, over all volumes it mounts. Links are followed as it follows them: their targets are paths of that
 * system, never of ours.
 */
export class Tree {
  readonly root: GuestVolume
  readonly mounts: readonly Mount[]
  /** By where they are shown. */
  readonly #binds: ReadonlyMap<string, Path>

  constructor(root: GuestVolume, mounts: readonly Mount[] = [], binds: readonly Bind[] = []) {
    this.root = root
    // The innermost first: that is the one which is seen.
    this.mounts = mounts.toSorted((one, other) => other.point.length - one.point.length)
    this.#binds = new Map(binds.map(({ point, target }) => [point.join('/'), target]))
  }

  /** Where a path without links lies. */
  locate(guest: Path): Place {
    const mount = this.mounts.find(({ point }) => isWithin(guest, point))
    return mount === undefined
      ? { guest, volume: this.root, path: guest }
      : { guest, volume: mount.volume, path: guest.slice(mount.point.length) }
  }

  /** What a path names, its links followed. Undefined where there is nothing, and for circles. */
  async resolve(text: string): Promise<(Place & { readonly facts: FileFacts }) | undefined> {
    const todo = splitPath(text).toReversed()
    let guest: string[] = []
    let linkCount = 0
    let facts = await this.#stat(guest)
    while (todo.length > 0) {
      const name = todo.pop() ?? ''
      if (name === '..') {
        guest.pop()
        facts = await this.#stat(guest)
        continue
      }
      if (facts?.kind !== 'directory') return undefined
      guest.push(name)
      let target = this.#binds.size === 0 ? undefined : this.#binds.get(guest.join('/'))
      facts = target === undefined ? await this.#stat(guest) : undefined
      if (facts?.kind === 'link') {
        const { volume, path } = this.locate(guest)
        const written = await volume.files.readLink(path)
        if (written === undefined) return undefined
        target = splitPath(written)
        if (!written.startsWith('/')) target = [...guest.slice(0, -1), ...target]
      }
      if (target !== undefined) {
        linkCount += 1
        if (linkCount > LINK_COUNT_MAX || todo.length + target.length > NAME_COUNT_MAX) return undefined
        todo.push(...target.toReversed())
        guest = []
        facts = await this.#stat(guest)
      } else if (facts === undefined) return undefined
    }
    return facts && { ...this.locate(guest), facts }
  }

  async resolveDirectory(text: string): Promise<Place | undefined> {
    const place = await this.resolve(text)
    return place?.facts.kind === 'directory' ? place : undefined
  }

  /** What is in a directory, as the system sees it: where a volume is mounted, that one. */
  async entries(place: Place): Promise<readonly (Place & DirectoryEntry)[]> {
    const entries = (await place.volume.files.list(place.path)) ?? []
    return entries.map(({ name, kind }) => {
      const inside = { guest: [...place.guest, name], volume: place.volume, path: [...place.path, name] }
      const isMount = kind === 'directory' && this.mounts.some(({ point }) => isSame(point, inside.guest))
      return { ...(isMount ? this.locate(inside.guest) : inside), name, kind }
    })
  }

  shown(guest: Path): string {
    return shownPath(this.root.files, guest)
  }

  /**
   * The edits that empty a directory, whatever is mounted in it. What stays: the directory, the directories that volumes are
   * mounted at (without them the system does not start), 'lost+found' of a volume, and `keep` with all beneath.
   */
  async clearing(place: Place, keep: readonly Path[] = []): Promise<readonly VolumeEdit[]> {
    const points = this.mounts
      .map(({ point }) => point)
      .filter((point) => point.length > place.guest.length && isWithin(point, place.guest))
    const around = [...keep, ...points].filter((path) => isWithin(path, place.guest))
    if (around.some((path) => isSame(path, place.guest))) return []
    if (around.length === 0 && place.path.length > 0) {
      return [{ volume: place.volume, edit: { is: 'empty', path: place.path } }]
    }
    const edits: VolumeEdit[] = []
    for (const { name, kind } of (await place.volume.files.list(place.path)) ?? []) {
      const guest = [...place.guest, name]
      const path = [...place.path, name]
      if (place.path.length === 0 && name === 'lost+found') continue
      if (kind === 'directory' && points.some((point) => isSame(point, guest))) {
        edits.push({ volume: place.volume, edit: { is: 'empty', path } })
        edits.push(...(await this.clearing(this.locate(guest), keep)))
      } else if (kind === 'directory' && around.some((one) => isWithin(one, guest))) {
        edits.push(...(await this.clearing({ guest, volume: place.volume, path }, keep)))
      } else if (!keep.some((one) => isSame(one, guest))) {
        edits.push({ volume: place.volume, edit: { is: 'remove', path } })
      }
    }
    return edits
  }

  async #stat(guest: Path): Promise<FileFacts | undefined> {
    const { volume, path } = this.locate(guest)
    return volume.files.stat(path)
  }
}

function isSame(one: Path, other: Path): boolean {
  return one.length === other.length && isWithin(one, other)
}
