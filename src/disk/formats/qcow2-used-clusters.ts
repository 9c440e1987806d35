import { refuseFile } from './contract.ts'

/** Of the map itself: two bits for each cluster, so 64 GiB of file in the smallest clusters, 8 TiB in those of 64 KiB. */
const MAP_BYTES_MAX = 32 * 1024 * 1024

const FREE = 0
const TAKEN = 1
const SHARED = 2

/**
 * Who has which cluster of a file, so that nothing in it is used twice: a table that is also data could be rewritten by
 * what it describes, and a small file could describe endless tables.
 */
export class UsedClusters {
  readonly #map: Uint8Array

  /** Throws the refusal 'tables' for a file of so many clusters that the map would not fit in our bounds. */
  constructor(clusterCount: number) {
    const mapBytes = Math.ceil(clusterCount / 4)
    if (mapBytes > MAP_BYTES_MAX) {
      throw refuseFile(
        'tables',
        'The file is too large for clusters as small as it has. Convert it with larger ones: ' +
          'qemu-img convert -O qcow2 -o cluster_size=64k OLD NEW.',
      )
    }
    this.#map = new Uint8Array(mapBytes)
  }

  /** True if all of `count` clusters from `first` on were free until now. They lie inside the file: the caller has checked. */
  take(first: number, count: number): boolean {
    for (let cluster = first; cluster < first + count; cluster += 1) {
      if (!this.#set(cluster, TAKEN)) return false
    }
    return true
  }

  /** As `take`, for those that share a cluster with their like, and with nobody else. */
  share(first: number, count: number): boolean {
    for (let cluster = first; cluster < first + count; cluster += 1) {
      if (!this.#set(cluster, SHARED)) return false
    }
    return true
  }

  #set(cluster: number, use: typeof TAKEN | typeof SHARED): boolean {
    const at = cluster >> 2
    const shift = (cluster & 3) * 2
    const before = ((this.#map[at] ?? 0) >> shift) & 3
    if (before === FREE) {
      this.#map[at] = (this.#map[at] ?? 0) | (use << shift)
      return true
    }
    return before === SHARED && use === SHARED
  }
}
